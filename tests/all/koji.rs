//! The handler `koji-owners` against a stand-in for a Koji hub, and that against what a real hub said and the real client.

mod owners;
mod reconcile;
mod site;
mod standin;
mod trouble;

/// Text that grows to gigabytes where entities are expanded.
fn bomb() -> String {
    let entity = |n: u8| {
        let inner = if n == 0 { "lol".to_owned() } else { format!("&l{};", n - 1).repeat(10) };
        format!("<!ENTITY l{n} \"{inner}\">")
    };
    let entities: String = (0..10).map(entity).collect();
    format!(
        "<?xml version='1.0'?>\n<!DOCTYPE m [{entities}]>\n<methodResponse><params><param><value><string>&l9;</string></value>\
         </param></params></methodResponse>\n"
    )
}
