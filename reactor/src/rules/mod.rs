//! The site's YAML: which messages, which reaction.
//!
//! * [`file`]: YAML → site, all errors at once
//! * [`node`]: YAML → a tree with places; `lower*`: the tree → typed values
//! * [`words`]: every word of the file, once; [`schema`]: the same as a JSON Schema
//! * [`diagnostics`]: those errors, as people read them; `masked`: without the passwords
//! * [`site`]: the site as data
//! * [`scope`]: what conditions and templates see
//! * [`topic`]: topic patterns and their index
//! * [`condition`]: `where`, `unless` and `when`
//! * [`template`]: `key` and `with`
//! * [`matcher`]: which rules a message concerns; [`explain`](mod@explain): why, or why not

pub mod condition;
pub mod diagnostics;
pub mod explain;
pub mod file;
mod lower;
mod lower_amqp;
mod lower_bus;
mod lower_catch_up;
pub(crate) mod lower_confirm;
mod lower_fedmsg;
mod lower_handler;
mod lower_http;
mod lower_rule;
mod lower_test;
pub(crate) mod masked;
pub mod matcher;
pub mod node;
mod node_errors;
mod reach;
pub mod schema;
pub mod scope;
mod settings_place;
pub mod site;
mod source;
pub mod template;
#[cfg(test)]
pub(crate) mod testkit;
mod text_place;
pub mod topic;
pub mod words;

/// What is wrong in an expression or template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    /// Byte offset into the source text.
    pub offset: usize,
    /// Length in bytes of what is wrong; 0 where only the place is known.
    pub len: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead, if that is known.
    pub hint: Option<String>,
}
