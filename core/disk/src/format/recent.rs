//! Caches recently read tables and decompressed clusters. The cache holds a few entries, so that several
//! readers of one disk do not evict each other's entries.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;

/// The most recent values, by the offset in the file that they were made from.
#[derive(Debug)]
pub(super) struct Recent<V> {
    entries: Mutex<Vec<(u64, Arc<V>)>>,
    capacity: usize,
}

impl<V> Recent<V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: Mutex::new(Vec::new()), capacity }
    }

    /// Returns the value for `key`, and creates it when it is not cached.
    pub(super) fn get(
        &self,
        key: u64,
        make: impl FnOnce() -> Result<V, Error>,
    ) -> Result<Arc<V>, Error> {
        if let Some(hit) = self.hit(key) {
            return Ok(hit);
        }
        // Created outside the lock, so that readers do not wait for each other.
        let made = Arc::new(make()?);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.capacity {
            entries.remove(0);
        }
        entries.push((key, Arc::clone(&made)));
        Ok(made)
    }

    fn hit(&self, key: u64) -> Option<Arc<V>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let at = entries.iter().position(|(cached, _)| *cached == key)?;
        let entry = entries.remove(at);
        let value = Arc::clone(&entry.1);
        entries.push(entry);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let cache = Recent::new(2);
        let get = |key| *cache.get(key, || Ok(key * 10)).unwrap();
        assert_eq!((get(1), get(2), get(1), get(3)), (10, 20, 10, 30));
        let kept = |key: u64| *cache.get(key, || Ok(0)).unwrap();
        assert_eq!((kept(1), kept(3), kept(2)), (10, 30, 0));
    }
}
