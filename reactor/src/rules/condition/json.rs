//! JSON as CEL values that borrow the message: nothing is copied but what an expression really looks at. Each value handed
//! out is counted, so that an expression over a huge message ends.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Iterable, Iterator, Sizer};
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt, MAP_TYPE, Type,
};
use cel::common::value::{BuiltinRef, CowVal, Val};
use cel::context::VariableResolver;
use serde_json::{Map, Value};

use super::LOOKS_MAX;
use crate::message::Message;
use crate::rules::scope::Scope;

/// Counts values handed out.
#[derive(Debug, Default)]
pub(super) struct Looks(AtomicU32);

impl Looks {
    /// False once there were too many.
    fn one_more(&self) -> bool {
        // One evaluation is one thread; wrapping is out of reach because nothing is handed out past the limit.
        self.0.load(Ordering::Relaxed) <= LOOKS_MAX && self.0.fetch_add(1, Ordering::Relaxed) < LOOKS_MAX
    }

    pub(super) fn too_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) > LOOKS_MAX
    }
}

/// The names that a `when` sees. Answers whole paths (`msg.user.name`) at once.
pub(super) struct Names<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) newest: &'a Message,
    pub(super) looks: Looks,
}

impl VariableResolver for Names<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let (root, path) = name.split_once('.').map_or((name, None), |(root, path)| (root, Some(path)));
        if let ("msg", Some(path)) = (root, path) {
            let found = path.split('.').try_fold(&self.newest.body, |at, word| at.as_object()?.get(word))?;
            return Some(CowVal::Owned(to_val(found, &self.looks)));
        }
        if path.is_some() {
            return None;
        }
        let text = |text| Some(CowVal::owned(CelString::from(text)));
        match root {
            "msg" => Some(CowVal::Owned(to_val(&self.newest.body, &self.looks))),
            "topic" => text(self.newest.topic.as_str()),
            "id" => text(&self.newest.id),
            "signer" => text(&self.newest.signer),
            "sent" => Some(CowVal::owned(CelString::from(self.newest.sent.to_string()))),
            "headers" => Some(CowVal::owned(JsonMap::new(&self.newest.headers, &self.looks))),
            "messages" => {
                let all = self.scope.messages().iter().map(|message| message_val(message, &self.looks));
                Some(CowVal::owned(CelList::from(all.collect::<Vec<_>>())))
            }
            _ => None,
        }
    }
}

fn message_val<'a>(message: &'a Message, looks: &'a Looks) -> Box<dyn Val + 'a> {
    let text = |text: &'a str| -> Box<dyn Val + 'a> { Box::new(CelString::from(text)) };
    let entries: [(&'a str, Box<dyn Val + 'a>); 6] = [
        ("id", text(&message.id)),
        ("topic", text(message.topic.as_str())),
        ("signer", text(&message.signer)),
        ("sent", Box::new(CelString::from(message.sent.to_string()))),
        ("msg", to_val(&message.body, looks)),
        ("headers", Box::new(JsonMap::new(&message.headers, looks))),
    ];
    let entries: HashMap<CelMapKey<'a>, _> = entries.into_iter().map(|(name, val)| (name.into(), val)).collect();
    Box::new(CelMap::from(entries))
}

/// One value. A list is opened (its elements borrowed), a map is not.
fn to_val<'a>(value: &'a Value, looks: &'a Looks) -> Box<dyn Val + 'a> {
    if !looks.one_more() {
        return Box::new(CelNull);
    }
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Box::new(CelInt::from(value)),
            (None, Some(value)) => Box::new(CelUInt::from(value)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => {
            let vals = items.iter().take_while(|_| !looks.too_many()).map(|item| to_val(item, looks));
            Box::new(CelList::from(vals.collect::<Vec<_>>()))
        }
        Value::Object(map) => Box::new(JsonMap::new(map, looks)),
    }
}

/// A JSON object as a CEL map. Fields are looked up in place; the whole is built only for `==` and macros.
#[derive(Debug)]
struct JsonMap<'a> {
    map: &'a Map<String, Value>,
    looks: &'a Looks,
    whole: OnceLock<CelMap<'a>>,
}

impl<'a> JsonMap<'a> {
    const fn new(map: &'a Map<String, Value>, looks: &'a Looks) -> Self {
        Self { map, looks, whole: OnceLock::new() }
    }

    fn whole(&self) -> &CelMap<'a> {
        self.whole.get_or_init(|| {
            let open = self.map.iter().take_while(|_| !self.looks.too_many());
            let entries: HashMap<CelMapKey<'a>, Box<dyn Val + 'a>> =
                open.map(|(key, value)| (key.as_str().into(), to_val(value, self.looks))).collect();
            CelMap::from(entries)
        })
    }
}

impl Val for JsonMap<'_> {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn into_indexer<'v>(self: Box<Self>) -> Option<Box<dyn Indexer + 'v>>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        self.whole().equals(other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(JsonMap::new(self.map, self.looks))
    }

    fn as_builtin<'b, 'v>(&'b self) -> BuiltinRef<'b, 'v>
    where
        Self: 'v,
    {
        BuiltinRef::Map(self.whole())
    }
}

impl Container for JsonMap<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(key.downcast_ref::<CelString>().is_some_and(|key| self.map.contains_key(key.inner())))
    }
}

impl Indexer for JsonMap<'_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let Some(key) = key.downcast_ref::<CelString>() else {
            return Err(ExecutionError::UnexpectedType { got: key.get_type().name().into(), want: "string".into() });
        };
        let found = self.map.get(key.inner()).ok_or_else(|| ExecutionError::no_such_key(key.inner()))?;
        Ok(CowVal::Owned(to_val(found, self.looks)))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

impl Iterable for JsonMap<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        self.whole().iter()
    }
}

impl Sizer for JsonMap<'_> {
    fn size(&self) -> CelInt {
        i64::try_from(self.map.len()).unwrap_or(i64::MAX).into()
    }
}
