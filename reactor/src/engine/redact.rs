//! Secret values stay out of the journal and of every print-out.

use handler_api::Change;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Hex digits of the hash that stands for a secret: enough to see that it changed, not to be taken for it.
const HASH_HEX_DIGITS: usize = 12;

/// The change as it may be stored and shown: before and after of a secret one are hashes.
#[must_use]
pub fn redacted(change: &Change) -> Change {
    let mut shown = change.clone();
    if shown.secret {
        shown.before = shown.before.as_ref().map(hash);
        shown.after = shown.after.as_ref().map(hash);
        shown.more.clear();
    }
    shown
}

fn hash(value: &Value) -> Value {
    let digest = Sha256::digest(value.to_string());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Value::String(format!("secret:{}", &hex[..HASH_HEX_DIGITS]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_secret_change_only_hashes_are_left() {
        let change = json!({"action": "update", "target": "password of db", "before": "hunter2", "after": "hunter3",
            "secret": true, "note": "hunter3"});
        let change: Change = serde_json::from_value(change).expect("a change");
        let shown = serde_json::to_string(&redacted(&change)).expect("JSON");
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(shown.contains("secret:"), "{shown}");
    }
}
