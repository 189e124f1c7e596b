//! What `reactor doctor` asks a broker: whether it lets us in, and whether what the site names is there. Declares nothing, reads
//! nothing.

use super::config::{Amqp, Exchange, Queue};
use super::connection::{Broken, Connection, SETUP_SECONDS_MAX, within};
use super::methods::{self, CHANNEL_OPEN_OK, EXCHANGE_DECLARE_OK, Said};

/// Something that the site names.
#[derive(Debug)]
pub struct Seen {
    /// `queue` or `exchange`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// What it has, in words; or that it is not there, or why it can't be used.
    pub found: Result<String, Broken>,
}

/// Logs in and looks at the exchange to publish on, and at the queues if they are read.
///
/// # Errors
/// Why it does not let us in, or answers no more.
pub async fn look(amqp: &Amqp, reads: bool) -> Result<Vec<Seen>, Broken> {
    let mut connection = Connection::connect(amqp).await?;
    let seen = within(SETUP_SECONDS_MAX, look_at_all(&mut connection, amqp, reads)).await;
    connection.close().await;
    seen
}

async fn look_at_all(connection: &mut Connection, amqp: &Amqp, reads: bool) -> Result<Vec<Seen>, Broken> {
    let exchange = Exchange { kind: "topic".into(), durable: true, auto_delete: false, arguments: Default::default() };
    let name = amqp.publish_exchange.clone();
    let frame = methods::exchange_declare(&name, &exchange, true);
    let found = connection.call(&frame, EXCHANGE_DECLARE_OK).await.map(|()| "is there".to_owned());
    go_on(connection, &found).await?;
    let mut seen = vec![Seen { what: "exchange", name, found }];
    for name in amqp.queues.keys().filter(|_| reads) {
        connection.send(&methods::queue_declare(name, &Queue::default(), true)).await?;
        let found = match connection.said().await {
            Ok(Said::QueueDeclared { messages, consumers, .. }) => {
                Ok(format!("has {messages} messages that wait, and {consumers} consumers"))
            }
            Ok(_) => Err("the broker does not answer".to_owned().into()),
            Err(broken) => Err(broken),
        };
        go_on(connection, &found).await?;
        seen.push(Seen { what: "queue", name: name.clone(), found });
    }
    Ok(seen)
}

/// What is not there costs the channel. Where the connection has ended, this fails.
async fn go_on(connection: &mut Connection, found: &Result<String, Broken>) -> Result<(), Broken> {
    match found {
        Ok(_) => Ok(()),
        Err(_) => connection.call(&methods::channel_open(), CHANNEL_OPEN_OK).await,
    }
}
