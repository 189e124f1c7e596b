use super::*;

const A: &str = "tcp://a.example.org:3000";
const B: &str = "tcp://b.example.org:3000";
const NUMERIC: &str = "tcp://127.0.0.1:3000";

/// Connections, and a clock in seconds.
struct Seen(Connections, Instant);

impl Seen {
    fn new(endpoints: &[&str]) -> Self {
        Self(Connections::new(endpoints.iter().map(|&text| text.to_owned()).collect()), Instant::now())
    }

    fn note(&mut self, seconds: u64, event: Event, address: &str) -> Option<Change> {
        self.0.note(event, address, self.1 + Duration::from_secs(seconds))
    }

    fn reopened(&mut self, seconds: u64) -> Vec<String> {
        self.0.to_reopen(self.1 + Duration::from_secs(seconds))
    }

    fn wakes_in(&self, seconds: u64) -> Option<u64> {
        self.0.wake_in(self.1 + Duration::from_secs(seconds)).map(|wait| wait.as_secs())
    }
}

#[test]
fn what_libzmq_tries_again_is_left_to_it() {
    let mut seen = Seen::new(&[NUMERIC]);
    assert_eq!(seen.note(0, Event::Retried, NUMERIC), None, "not there yet");
    assert_eq!(seen.note(1, Event::Connected, NUMERIC), Some(Change::Connected));
    assert_eq!(seen.0.connected(), 1);
    assert_eq!(seen.note(9, Event::Lost, NUMERIC), Some(Change::Lost));
    assert_eq!(seen.wakes_in(9), Some(2), "it may have been given up");
    seen.note(9, Event::Retried, NUMERIC);
    assert_eq!((seen.wakes_in(9), seen.reopened(1_000)), (None, vec![]));
}

#[test]
fn what_libzmq_gives_up_is_opened_anew_later_and_later() {
    let mut seen = Seen::new(&[NUMERIC]);
    let (mut at, mut waits) = (0, Vec::new());
    for _ in 0..7 {
        assert_eq!(seen.note(at, Event::Lost, NUMERIC), None, "it never was usable");
        let wait = seen.wakes_in(at).unwrap();
        assert_eq!(seen.reopened(at + wait - 1), [""; 0]);
        assert_eq!(seen.reopened(at + wait), [NUMERIC]);
        assert_eq!(seen.reopened(at + wait), [""; 0], "once");
        at += wait;
        waits.push(wait);
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 64]);
    seen.note(at, Event::Connected, NUMERIC);
    seen.note(at + 60, Event::Lost, NUMERIC);
    assert_eq!(seen.wakes_in(at + 60), Some(2), "it had held for a minute");
}

#[test]
fn a_name_is_known_by_its_number_after_the_first_loss() {
    let mut seen = Seen::new(&[A, "tcp://c.example.org:4000"]);
    seen.note(0, Event::Connected, A);
    seen.note(1, Event::Lost, A);
    seen.note(1, Event::Retried, "tcp://10.0.0.1:3000");
    assert_eq!(seen.reopened(100), [""; 0]);
    seen.note(101, Event::Connected, "tcp://10.0.0.1:3000");
    assert_eq!(seen.note(102, Event::Lost, "tcp://10.0.0.1:3000"), Some(Change::Lost));
    assert_eq!(seen.reopened(104), [A], "now it was given up");
}

#[test]
fn names_with_the_same_port_that_all_come_back_are_left_alone() {
    let mut seen = Seen::new(&[A, B]);
    for event in [Event::Connected, Event::Lost] {
        seen.note(0, event, A);
        seen.note(0, event, B);
    }
    seen.note(0, Event::Retried, "tcp://10.0.0.1:3000");
    seen.note(0, Event::Retried, "tcp://10.0.0.1:3000");
    assert_eq!(seen.wakes_in(0), Some(2), "only one of the two was heard of");
    seen.note(1, Event::Retried, "tcp://10.0.0.2:3000");
    assert_eq!(seen.reopened(100), [""; 0]);
    seen.note(101, Event::Lost, "tcp://10.0.0.2:3000");
    assert_eq!(seen.reopened(200), [A, B], "which of them it is can't be told");
}

#[test]
fn one_of_two_names_given_up_means_both_are_opened_anew() {
    let mut seen = Seen::new(&[A, B]);
    for event in [Event::Connected, Event::Lost] {
        seen.note(0, event, A);
        seen.note(0, event, B);
    }
    seen.note(0, Event::Retried, "tcp://10.0.0.1:3000");
    assert_eq!(seen.reopened(2), [A, B]);
}

#[test]
fn addresses_that_never_change_their_name_are_told_apart_from_names() {
    for fixed in ["tcp://127.0.0.1:3000", "tcp://[::1]:3000", "ipc:///run/x"] {
        assert!(is_numeric(fixed), "{fixed}");
    }
    assert!(!is_numeric(A));
}
