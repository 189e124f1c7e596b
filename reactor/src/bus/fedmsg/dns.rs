//! Asks DNS for the fedmsg publishers of a domain: SRV records of `_fedmsg._tcp.DOMAIN`, as fedmsg's own `srv_endpoints` does
//! (fedmsg `core.py`); priority and weight mean nothing there. The packets are made and read by `simple-dns`; in here is
//! what goes over the wire: UDP, and TCP where the answer does not fit.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};

use super::discovery::ADDRESSES_MAX;

/// DNS's own port.
const PORT: u16 = 53;
/// How long one server may take for one answer, in seconds.
const ANSWER_SECONDS_MAX: u64 = 3;
/// Servers that are asked, one after the other, where the system names more (resolv.conf(5), `MAXNS`).
const SERVERS_MAX: usize = 3;
/// Tries for each of them: over UDP a packet may be lost.
const TRIES: usize = 2;
/// Most of /etc/resolv.conf that is read, in bytes.
const RESOLV_CONF_BYTES_MAX: u64 = 64 * 1024;

/// What DNS says.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// `tcp://TARGET:PORT`, sorted, each once; at least one.
    pub addresses: Vec<String>,
    /// For how long that holds, in seconds.
    pub ttl_s: u32,
}

/// Asks `server`, or those of the system. Blocking.
///
/// # Errors
/// Why there is no address: nobody answered, the name is not there, or the answer makes no sense.
pub fn publishers(domain: &str, server: Option<SocketAddr>) -> Result<Answer, String> {
    let name = format!("_fedmsg._tcp.{}", domain.trim_end_matches('.'));
    let servers = server.map_or_else(system_servers, |server| vec![server]);
    let mut last = "no server to ask".to_owned();
    for server in servers {
        for _ in 0..TRIES {
            match ask(&name, server) {
                Ok(answer) => return answer,
                Err(why) => last = format!("{server}: {why}"),
            }
        }
    }
    Err(last)
}

/// The servers of /etc/resolv.conf; without any, this machine (resolv.conf(5)).
fn system_servers() -> Vec<SocketAddr> {
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open("/etc/resolv.conf") {
        // What can't be read counts as empty, as for every other program.
        let _ = file.take(RESOLV_CONF_BYTES_MAX).read_to_string(&mut text);
    }
    let found = servers_in(&text);
    if found.is_empty() { vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)] } else { found }
}

fn servers_in(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()?.parse::<IpAddr>().ok()
    });
    named.take(SERVERS_MAX).map(|address| SocketAddr::new(address, PORT)).collect()
}

/// The outer error: no answer, so another server may have one. The inner one is what the server says.
fn ask(name: &str, server: SocketAddr) -> Result<Result<Answer, String>, String> {
    let id = u16::from_be_bytes(
        ring::rand::generate(&ring::rand::SystemRandom::new())
            .map_err(|_| "the system gives no random numbers")?
            .expose(),
    );
    let query = query(name, id)?;
    let bytes = over_udp(&query, id, server)?;
    let bytes = if is_cut(&bytes) { over_tcp(&query, server)? } else { bytes };
    understood(&bytes, name, id)
}

/// Whether the answer did not fit (RFC 1035, 4.1.1: the bit TC). It may end anywhere then, so it is not read for that.
fn is_cut(bytes: &[u8]) -> bool {
    bytes.get(2).is_some_and(|flags| flags & 0b10 != 0)
}

fn query(name: &str, id: u16) -> Result<Vec<u8>, String> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let qname = Name::new(name).map_err(|error| format!("{name} can't be a name: {error}"))?;
    packet.questions.push(Question::new(qname, QTYPE::TYPE(TYPE::SRV), CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(|error| error.to_string())
}

/// The first answer that has our number. The socket is connected, so nobody else's packets come in, and its port is random.
#[allow(clippy::disallowed_methods, reason = "how long an answer may take is measured")]
fn over_udp(query: &[u8], id: u16, server: SocketAddr) -> Result<Vec<u8>, String> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let wrong = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            format!("no answer within {ANSWER_SECONDS_MAX} s")
        }
        _ => error.to_string(),
    };
    let socket = UdpSocket::bind((any, 0)).map_err(wrong)?;
    socket.connect(server).map_err(wrong)?;
    socket.send(query).map_err(wrong)?;
    let until = Instant::now() + Duration::from_secs(ANSWER_SECONDS_MAX);
    let mut bytes = vec![0; usize::from(u16::MAX)];
    loop {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        socket.set_read_timeout(Some(left)).map_err(wrong)?;
        let len = socket.recv(&mut bytes).map_err(wrong)?;
        if bytes[..len].starts_with(&id.to_be_bytes()) {
            bytes.truncate(len);
            return Ok(bytes);
        }
        if Instant::now() >= until {
            return Err(format!("no answer to our question within {ANSWER_SECONDS_MAX} s"));
        }
    }
}

/// A length of two bytes stands before each message (RFC 1035, 4.2.2).
fn over_tcp(query: &[u8], server: SocketAddr) -> Result<Vec<u8>, String> {
    let wrong = |error: std::io::Error| format!("over TCP: {error}");
    let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
    let mut stream = TcpStream::connect_timeout(&server, limit).map_err(wrong)?;
    stream.set_read_timeout(Some(limit)).map_err(wrong)?;
    stream.set_write_timeout(Some(limit)).map_err(wrong)?;
    let len = u16::try_from(query.len()).map_err(|_| "the question is too long")?;
    stream.write_all(&[&len.to_be_bytes(), query].concat()).map_err(wrong)?;
    let mut len = [0; 2];
    stream.read_exact(&mut len).map_err(wrong)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut bytes).map_err(wrong)?;
    Ok(bytes)
}

/// What an answer says; from whom it comes is not known for sure, so every part of it is looked at.
fn understood(bytes: &[u8], name: &str, id: u16) -> Result<Result<Answer, String>, String> {
    let packet = Packet::parse(bytes).map_err(|error| format!("its answer can't be read: {error}"))?;
    // A server that does not understand the question need not repeat it.
    let is_answer = matches!(packet.rcode(), RCODE::NoError | RCODE::NameError);
    let is_asked = |question: &Question<'_>| {
        question.qtype == QTYPE::TYPE(TYPE::SRV) && question.qname.to_string().eq_ignore_ascii_case(name)
    };
    let is_ours = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && (!is_answer || packet.questions.len() == 1 && packet.questions.iter().all(is_asked));
    if !is_ours {
        return Err("it answers another question".to_owned());
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Ok(Err(format!("there is no {name}"))),
        other => return Err(format!("it says {other:?}")),
    }
    let mut ttl_s = u32::MAX;
    let mut addresses = Vec::new();
    for record in &packet.answers {
        let RData::SRV(srv) = &record.rdata else { continue };
        ttl_s = ttl_s.min(record.ttl);
        let target = srv.target.to_string();
        let target = target.trim_end_matches('.');
        // An empty target: the service is decidedly not there (RFC 2782).
        let is_host = !target.is_empty()
            && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        if is_host && srv.port != 0 {
            addresses.push(format!("tcp://{target}:{}", srv.port));
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.len() > ADDRESSES_MAX {
        return Ok(Err(format!("{} addresses for {name}; at most {ADDRESSES_MAX} are taken", addresses.len())));
    }
    Ok(if addresses.is_empty() { Err(format!("{name} names no publisher")) } else { Ok(Answer { addresses, ttl_s }) })
}

#[cfg(test)]
mod tests {
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::SRV;

    use super::*;

    const NAME: &str = "_fedmsg._tcp.example.org";

    fn answer(records: &[(&str, u16, u32)], rcode: RCODE) -> Vec<u8> {
        let mut packet = Packet::new_reply(7);
        packet.set_flags(PacketFlag::RESPONSE);
        *packet.rcode_mut() = rcode;
        let name = Name::new_unchecked(NAME);
        packet.questions.push(Question::new(name.clone(), QTYPE::TYPE(TYPE::SRV), CLASS::IN.into(), false));
        for (target, port, ttl) in records {
            let srv = SRV { priority: 1, weight: 1, port: *port, target: Name::new_unchecked(target) };
            packet.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, *ttl, RData::SRV(srv)));
        }
        packet.build_bytes_vec().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Result<Answer, String>, String> {
        understood(bytes, NAME, 7)
    }

    #[test]
    fn an_answer_is_addresses_and_how_long_they_hold() {
        let bytes = answer(
            &[("b.example.org", 3001, 60), ("a.example.org", 3000, 30), ("a.example.org", 3000, 90)],
            RCODE::NoError,
        );
        let expected = ["tcp://a.example.org:3000", "tcp://b.example.org:3001"].map(str::to_owned).to_vec();
        assert_eq!(read(&bytes), Ok(Ok(Answer { addresses: expected, ttl_s: 30 })));
    }

    #[test]
    fn what_names_nobody_is_an_error_and_not_an_empty_list() {
        assert!(read(&answer(&[], RCODE::NoError)).unwrap().unwrap_err().contains("names no publisher"));
        assert!(read(&answer(&[("a.example.org", 0, 9)], RCODE::NoError)).unwrap().is_err(), "port 0");
        assert!(read(&answer(&[], RCODE::NameError)).unwrap().unwrap_err().contains("there is no _fedmsg"));
        assert!(read(&answer(&[], RCODE::ServerFailure)).is_err(), "another server may know");
        assert!(understood(&answer(&[("a", 1, 1)], RCODE::NoError), NAME, 8).is_err(), "not our number");
        assert!(understood(&answer(&[("a", 1, 1)], RCODE::NoError), "_fedmsg._tcp.example.com", 7).is_err());
    }

    #[test]
    fn an_answer_without_our_question_is_nobodys() {
        let mut packet = Packet::new_reply(7);
        packet.set_flags(PacketFlag::RESPONSE);
        let srv = SRV { priority: 1, weight: 1, port: 3000, target: Name::new_unchecked("evil.example.com") };
        packet.answers.push(ResourceRecord::new(Name::new_unchecked(NAME), CLASS::IN, 9, RData::SRV(srv)));
        assert!(read(&packet.build_bytes_vec().unwrap()).unwrap_err().contains("another question"));
        let mut refused = Packet::new_reply(7);
        refused.set_flags(PacketFlag::RESPONSE);
        *refused.rcode_mut() = RCODE::FormatError;
        assert!(read(&refused.build_bytes_vec().unwrap()).unwrap_err().contains("FormatError"));
    }

    #[test]
    fn an_answer_that_was_cut_anywhere_is_asked_for_over_tcp() {
        let mut bytes = answer(&[("a.example.org", 3000, 30)], RCODE::NoError);
        assert!(!is_cut(&bytes));
        bytes[2] |= 0b10;
        bytes.truncate(bytes.len() - 3);
        assert!(Packet::parse(&bytes).is_err() && is_cut(&bytes));
        assert!(!is_cut(&[7, 7]));
    }

    #[test]
    fn names_that_point_at_themselves_and_counts_that_lie_end() {
        let good = answer(&[("a.example.org", 3000, 30)], RCODE::NoError);
        // The name of a record, and the target of one, begin where they point to; or each at the other.
        let question = answer(&[], RCODE::NoError);
        let at = u8::try_from(question.len()).unwrap();
        let record = |name: [u8; 2], target: [u8; 2]| {
            let mut bytes = question.clone();
            bytes[7] = 1;
            bytes.extend(name);
            bytes.extend([0, 33, 0, 1, 0, 0, 0, 9, 0, 8, 0, 1, 0, 1, 11, 184]);
            bytes.extend(target);
            bytes
        };
        assert!(matches!(read(&record([0xc0, 12], [0xc0, 12])), Ok(Ok(_))), "back to the question is fine");
        for (name, target) in [([0xc0, at], [0xc0, 12]), ([0xc0, 12], [0xc0, at + 18]), ([0xc0, at + 18], [0xc0, at])] {
            let said = read(&record(name, target));
            assert!(!matches!(said, Ok(Ok(_))), "{name:?} {target:?}: {said:?}");
        }
        for count in [4, 6, 8, 10] {
            let mut lies = good.clone();
            lies[count..count + 2].fill(0xff);
            assert!(read(&lies).is_err(), "{count}");
        }
    }

    #[test]
    fn the_systems_servers_are_those_of_resolv_conf() {
        let text = "search example.org\nnameserver 192.0.2.1\n#nameserver 192.0.2.9\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\n";
        let expected: Vec<SocketAddr> = ["192.0.2.1:53", "[2001:db8::1]:53"].map(|one| one.parse().unwrap()).to_vec();
        assert_eq!(servers_in(text), expected);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_have_an_answer(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), at in 0_usize..200, byte in proptest::prelude::any::<u8>()) {
            let _ = read(&bytes);
            bytes = answer(&[("a.example.org", 3000, 30)], RCODE::NoError);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read(&bytes);
        }
    }
}
