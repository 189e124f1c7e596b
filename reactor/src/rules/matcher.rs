//! stub
use std::sync::Arc;
use serde_json::{Map,Value};
use super::EvalError;
use super::site::Rule;
use crate::message::Message;
/// x
#[derive(Debug)]
pub struct Decision { /// x
 pub rule: Arc<Rule>, /// x
 pub what: Result<String, EvalError> }
/// x
pub struct Rules { rules: Vec<Arc<Rule>> }
impl Rules {
 /// x
 pub fn new(rules: Vec<Arc<Rule>>) -> Self { Self { rules } }
 /// x
 pub fn wants(&self, _t: &str) -> bool { false }
 /// x
 pub fn prefixes(&self) -> Vec<String> { vec![] }
 /// x
 pub fn decide(&self, _m: &Message) -> Vec<Decision> { vec![] }
 /// x
 pub fn rule(&self, name: &str) -> Option<&Arc<Rule>> { self.rules.iter().find(|r| &*r.name == name) }
 /// x
 pub fn all(&self) -> &[Arc<Rule>] { &self.rules }
 /// x
 pub fn params(&self, _r: &Rule, _m: &[&Message]) -> Result<Map<String,Value>, EvalError> { Ok(Map::new()) }
}
