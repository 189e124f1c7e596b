//! Reading an answer.

use std::borrow::Cow;
use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

use super::{DEPTH_MAX, Fault, Reply, VALUES_MAX, Value};

/// Longest name of a member or of an element that is quoted in an error, in characters.
const NAME_CHARS_MAX: usize = 40;

/// See [`super::reply`].
pub(super) fn reply(bytes: &[u8]) -> Result<Reply, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("is no UTF-8: {error}"))?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut parser = Parser { reader, values: 0 };
    parser.open("methodResponse")?;
    let reply = match parser.element()? {
        Some(Element::Params) => {
            parser.open("param")?;
            let value = parser.only_value()?;
            parser.close()?;
            Reply::Value(value)
        }
        Some(Element::Fault) => {
            let value = parser.only_value()?;
            Reply::Fault(Fault::of(&value).ok_or("has a fault without faultCode and faultString")?)
        }
        _ => return Err("has neither params nor a fault".to_owned()),
    };
    parser.close()?;
    parser.end()?;
    Ok(reply)
}

/// See [`super::called`].
pub(super) fn called(bytes: &[u8]) -> Result<(String, Vec<Value>), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("is no UTF-8: {error}"))?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut parser = Parser { reader, values: 0 };
    parser.open("methodCall")?;
    parser.open("methodName")?;
    let method = parser.text()?.into_owned();
    parser.open("params")?;
    let mut params = Vec::new();
    while let Some(element) = parser.element()? {
        if element != Element::Param {
            return Err("is no XML-RPC: its params hold something else".to_owned());
        }
        params.push(parser.only_value()?);
    }
    parser.close()?;
    parser.end()?;
    Ok((method, params))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    MethodCall,
    MethodName,
    MethodResponse,
    Params,
    Param,
    Fault,
    Value,
    Nil,
    Bool,
    Int,
    Double,
    Text,
    Array,
    Data,
    Struct,
    Member,
    Name,
}

impl Element {
    fn of(name: &[u8]) -> Result<Self, String> {
        Ok(match name {
            b"methodResponse" => Self::MethodResponse,
            b"methodCall" => Self::MethodCall,
            b"methodName" => Self::MethodName,
            b"params" => Self::Params,
            b"param" => Self::Param,
            b"fault" => Self::Fault,
            b"value" => Self::Value,
            b"nil" => Self::Nil,
            b"boolean" => Self::Bool,
            b"int" | b"i4" | b"i8" | b"i2" | b"i1" => Self::Int,
            b"double" => Self::Double,
            b"string" | b"base64" | b"dateTime.iso8601" => Self::Text,
            b"array" => Self::Array,
            b"data" => Self::Data,
            b"struct" => Self::Struct,
            b"member" => Self::Member,
            b"name" => Self::Name,
            other => {
                return Err(format!("is no XML-RPC: it has the element {}", shown(&String::from_utf8_lossy(other))));
            }
        })
    }
}

enum Token<'a> {
    Open(Element),
    Close,
    Text(Cow<'a, str>),
    End,
}

struct Parser<'a> {
    reader: Reader<&'a [u8]>,
    values: usize,
}

impl<'a> Parser<'a> {
    fn token(&mut self) -> Result<Token<'a>, String> {
        loop {
            let event =
                self.reader.read_event().map_err(|error| format!("is no XML: {}", shown(&error.to_string())))?;
            return Ok(match event {
                Event::Start(start) => Token::Open(Element::of(start.local_name().as_ref())?),
                Event::End(_) => Token::Close,
                Event::Text(text) => Token::Text(text.decode().map_err(|error| format!("is no UTF-8: {error}"))?),
                Event::CData(text) => Token::Text(text.decode().map_err(|error| format!("is no UTF-8: {error}"))?),
                Event::GeneralRef(name) => Token::Text(Cow::Owned(referred(&name)?.to_string())),
                Event::Eof => Token::End,
                Event::DocType(_) => return Err("has a document type, which no hub sends".to_owned()),
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => continue,
                Event::Empty(_) => return Err("is no XML-RPC".to_owned()),
            });
        }
    }

    /// The next element inside of the one that is open, or `None` when that one closes.
    fn element(&mut self) -> Result<Option<Element>, String> {
        loop {
            match self.token()? {
                Token::Open(element) => return Ok(Some(element)),
                Token::Close => return Ok(None),
                Token::Text(text) if is_blank(&text) => {}
                Token::Text(_) => return Err("is no XML-RPC: it has text between elements".to_owned()),
                Token::End => return Err(cut_short()),
            }
        }
    }

    fn open(&mut self, name: &'static str) -> Result<(), String> {
        let wanted = Element::of(name.as_bytes())?;
        match self.element()? {
            Some(element) if element == wanted => Ok(()),
            _ => Err(format!("is no XML-RPC: `{name}` is missing")),
        }
    }

    fn close(&mut self) -> Result<(), String> {
        match self.element()? {
            None => Ok(()),
            Some(_) => Err("is no XML-RPC: an element stands where none may".to_owned()),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        loop {
            match self.token()? {
                Token::End => return Ok(()),
                Token::Text(text) if is_blank(&text) => {}
                _ => return Err("is no XML: something follows its end".to_owned()),
            }
        }
    }

    /// The text up to the end of the element that is open, in which no other may stand.
    fn text(&mut self) -> Result<Cow<'a, str>, String> {
        let mut all = Cow::Borrowed("");
        loop {
            match self.token()? {
                Token::Text(text) => append(&mut all, text),
                Token::Close => return Ok(all),
                Token::Open(_) => return Err("is no XML-RPC: an element stands inside of a text".to_owned()),
                Token::End => return Err(cut_short()),
            }
        }
    }

    /// The one value in the element that is open, and the end of that element.
    fn only_value(&mut self) -> Result<Value, String> {
        self.open("value")?;
        let value = self.value(1)?;
        self.close()?;
        Ok(value)
    }

    /// What stands in a `value` that was just opened, and its end.
    fn value(&mut self, depth: usize) -> Result<Value, String> {
        self.values += 1;
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return Err(format!("has more than {DEPTH_MAX} levels or {VALUES_MAX} values"));
        }
        let mut bare = Cow::Borrowed("");
        let element = loop {
            match self.token()? {
                Token::Text(text) => append(&mut bare, text),
                Token::Close => return Ok(Value::Text(bare.into_owned())),
                Token::Open(element) if is_blank(&bare) => break element,
                Token::Open(_) => return Err("is no XML-RPC: a value has text beside its type".to_owned()),
                Token::End => return Err(cut_short()),
            }
        };
        let value = self.typed(element, depth)?;
        self.close()?;
        Ok(value)
    }

    fn typed(&mut self, element: Element, depth: usize) -> Result<Value, String> {
        match element {
            Element::Array => return self.array(depth),
            Element::Struct => return self.members(depth),
            _ => {}
        }
        let text = self.text()?;
        let word = text.trim();
        let wrong = || format!("has a value that is not of its type: {}", shown(word));
        match (element, word) {
            (Element::Text, _) => Ok(Value::Text(text.into_owned())),
            (Element::Nil, "") => Ok(Value::Nil),
            (Element::Bool, "0") => Ok(Value::Bool(false)),
            (Element::Bool, "1") => Ok(Value::Bool(true)),
            (Element::Int, word) => word.parse().map(Value::Int).map_err(|_| wrong()),
            (Element::Double, word) => word.parse().map(Value::Double).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        self.open("data")?;
        let mut values = Vec::new();
        while let Some(element) = self.element()? {
            if element != Element::Value {
                return Err("is no XML-RPC: an array holds something that is no value".to_owned());
            }
            values.push(self.value(depth + 1)?);
        }
        self.close()?;
        Ok(Value::Array(values))
    }

    fn members(&mut self, depth: usize) -> Result<Value, String> {
        let mut members = BTreeMap::new();
        while let Some(element) = self.element()? {
            if element != Element::Member {
                return Err("is no XML-RPC: a struct holds something that is no member".to_owned());
            }
            self.open("name")?;
            let name = self.text()?.into_owned();
            self.open("value")?;
            let value = self.value(depth + 1)?;
            self.close()?;
            if let Some(twice) = members.insert(name, value).map(|_| members.len()) {
                return Err(format!("has a struct of {twice} members, one of them twice"));
            }
        }
        Ok(Value::Struct(members))
    }
}

/// What `&name;` stands for.
fn referred(name: &BytesRef<'_>) -> Result<char, String> {
    let unknown = || format!("refers to {}, which no hub sends", shown(&String::from_utf8_lossy(name)));
    if let Some(c) = name.resolve_char_ref().map_err(|_| unknown())? {
        return Ok(c);
    }
    match &**name {
        b"lt" => Ok('<'),
        b"gt" => Ok('>'),
        b"amp" => Ok('&'),
        b"apos" => Ok('\''),
        b"quot" => Ok('"'),
        _ => Err(unknown()),
    }
}

fn append<'a>(all: &mut Cow<'a, str>, text: Cow<'a, str>) {
    if all.is_empty() {
        *all = text;
    } else {
        all.to_mut().push_str(&text);
    }
}

fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_whitespace())
}

fn cut_short() -> String {
    "is cut short".to_owned()
}

fn shown(text: &str) -> String {
    let begin: String = text.chars().take(NAME_CHARS_MAX).collect();
    format!("{begin:?}")
}
