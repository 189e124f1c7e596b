//! Pages of a list, and whether all of it came. Pure.
//!
//! FASJSON cuts a list anew for each page, so people who come and go between two pages shift the rest. A list is whole
//! only if the total never changed, every page but the last was full, and no name came twice.

use std::collections::HashSet;
use std::ops::Range;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::MEMBERS_MAX;
use handler_api::words::quoted;

/// What stands in a list.
pub(super) trait Listing: DeserializeOwned {
    /// What no two of them share.
    fn name(&self) -> &str;
}

/// Takes the pages of one list, in order.
#[derive(Debug)]
pub(super) struct Reader<T> {
    page_size: u64,
    total: Option<u64>,
    items: Vec<T>,
    names: HashSet<String>,
}

#[derive(Deserialize)]
struct Body<T> {
    result: Vec<T>,
    page: Page,
}

#[derive(Deserialize)]
#[allow(clippy::struct_field_names, reason = "FASJSON's names")]
struct Page {
    total_results: u64,
    page_size: u64,
    page_number: u64,
    total_pages: u64,
}

impl<T: Listing> Reader<T> {
    pub fn new(page_size: u64) -> Self {
        Self { page_size, total: None, items: Vec::new(), names: HashSet::new() }
    }

    /// Takes page `number`, from 1 on. The error is the end of a sentence that begins with the list.
    pub fn take(&mut self, number: u64, body: Value) -> Result<(), String> {
        let Body { result, page } = serde_json::from_value::<Body<T>>(body)
            .map_err(|error| format!("page {number} is not a page of a list: {error}"))?;
        let total = *self.total.get_or_insert(page.total_results);
        if page.total_results != total {
            return Err(format!("page {number} counts {} in all, the first counted {total}", page.total_results));
        }
        if total > MEMBERS_MAX {
            return Err(format!("the list has {total} entries, at most {MEMBERS_MAX} are taken"));
        }
        if page.page_number != number || page.page_size != self.page_size || page.total_pages != self.pages() {
            let Page { page_number, page_size, total_pages, .. } = page;
            return Err(format!(
                "asked for page {number} of {} with {} entries each, it answers with page {page_number} of {total_pages} with {page_size}",
                self.pages(),
                self.page_size
            ));
        }
        let expected = (total - (number - 1) * self.page_size.min(total)).min(self.page_size);
        if result.len() as u64 != expected {
            return Err(format!("page {number} has {} entries, and should have {expected}", result.len()));
        }
        for item in result {
            if !self.names.insert(item.name().to_owned()) {
                return Err(format!("{} is in the list twice", quoted(item.name())));
            }
            self.items.push(item);
        }
        Ok(())
    }

    /// The pages after the first.
    pub fn missing(&self) -> Range<u64> {
        2..self.pages().max(1) + 1
    }

    /// All entries, if all came.
    pub fn whole(self) -> Result<Vec<T>, String> {
        let came = self.items.len() as u64;
        if self.total == Some(came) {
            return Ok(self.items);
        }
        Err(format!("{came} entries came, and {} should have", self.total.unwrap_or_default()))
    }

    fn pages(&self) -> u64 {
        self.total.unwrap_or_default().div_ceil(self.page_size)
    }
}
