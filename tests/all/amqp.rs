//! fedora-messaging over a real RabbitMQ.

mod breakage;
mod daemon;
mod peers;
mod publish;
mod refused;
pub mod site;
mod source;
