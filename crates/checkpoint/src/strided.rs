//! Copying a strided view of a storage into row-major order.

/// The elements of `size` bytes each of the view `shape` with `strides` (in elements), whose first element begins
/// `storage`. Every element must lie inside `storage`.
pub(crate) fn gather(storage: &[u8], size: usize, shape: &[usize], strides: &[usize]) -> Box<[u8]> {
    let count: usize = shape.iter().product();
    let mut out = Vec::with_capacity(count * size);
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    for _ in 0..count {
        out.extend_from_slice(&storage[at * size..(at + 1) * size]);
        for dim in (0..shape.len()).rev() {
            index[dim] += 1;
            at += strides[dim];
            if index[dim] < shape[dim] {
                break;
            }
            at -= strides[dim] * shape[dim];
            index[dim] = 0;
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::gather;

    #[test]
    fn transposes_and_steps() {
        let storage: Vec<u8> = (0..24).collect();
        assert_eq!(&*gather(&storage, 1, &[3, 2], &[1, 3]), [0, 3, 1, 4, 2, 5]);
        assert_eq!(&*gather(&storage[4..], 2, &[2, 2], &[4, 2]), [4, 5, 8, 9, 12, 13, 16, 17]);
        assert_eq!(&*gather(&storage[5..], 1, &[], &[]), [5]);
    }
}
