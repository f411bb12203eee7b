//! How are a few things put in order? By insertion: core's sort is 3 KB for each type.

/// Sorts a handful; equal ones stay as they came. `is_before` says that the first belongs before the second.
pub(crate) fn sort_few<T>(items: &mut [T], is_before: &dyn Fn(&T, &T) -> bool) {
    for end in 1..items.len() {
        let mut at = end;
        while let Some([left, right]) = at.checked_sub(1).and_then(|start| items.get_mut(start..=at)) {
            if !is_before(right, left) {
                break;
            }
            core::mem::swap(left, right);
            at = at.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sort_few;
    use proptest::prelude::any;
    use proptest::{collection, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn it_orders_as_the_stable_sort(pairs in collection::vec(any::<(u8, u16)>(), 0..40)) {
            let (mut ours, mut theirs) = (pairs.clone(), pairs);
            sort_few(&mut ours, &|a, b| a.0 < b.0);
            theirs.sort_by_key(|pair| pair.0);
            prop_assert_eq!(ours, theirs);
        }
    }
}
