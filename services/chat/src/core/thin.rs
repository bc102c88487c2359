//! A list that is mostly empty, in one word instead of three.

use std::ops::Deref;

/// A list of which there are many and nearly all are empty: one without elements is a null pointer.
#[derive(Clone, Debug)]
pub struct Thin<T>(
    #[expect(
        clippy::box_collection,
        reason = "the box is what makes it one word; it is there only with elements"
    )]
    Option<Box<Vec<T>>>,
);

impl<T> Default for Thin<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for Thin<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |list| list)
    }
}

impl<'a, T> IntoIterator for &'a Thin<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> Thin<T> {
    /// Appends an element.
    pub fn push(&mut self, element: T) {
        self.0.get_or_insert_default().push(element);
    }

    /// Keeps the elements of which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        if let Some(list) = &mut self.0 {
            list.retain(keep);
        }
        self.0.take_if(|list| list.is_empty());
    }

    /// The elements.
    pub fn into_vec(self) -> Vec<T> {
        self.0.map(|list| *list).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Thin;

    #[test]
    fn is_a_list_in_one_word() {
        assert_eq!(size_of::<Thin<u64>>(), size_of::<usize>());
        let mut thin = Thin::default();
        assert!(thin.is_empty());
        thin.push(3);
        thin.push(5);
        assert_eq!((thin.len(), thin.contains(&5), (&thin).into_iter().sum::<i32>()), (2, true, 8));
        thin.retain(|n| *n != 3);
        assert_eq!(thin[..], [5]);
        thin.retain(|_| false);
        assert!(thin.is_empty() && thin.into_vec().is_empty());
    }
}
