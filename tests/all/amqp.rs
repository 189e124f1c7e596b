//! fedora-messaging over a real RabbitMQ.

mod peers;
mod source;
