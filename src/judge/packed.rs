//! How the judge's numbers are stored: the bits of every `f64`, eleven characters each.
//!
//! Logarithms of nothing are minus infinity, which JSON cannot say; and whatever re-encodes the
//! JSON on its way cannot change a bit of these. Shorter than decimals, too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

/// Writes the numbers as one string.
pub fn serialize<S: Serializer>(values: &impl AsRef<[f64]>, serializer: S) -> Result<S::Ok, S::Error> {
    let bytes: Vec<u8> = values.as_ref().iter().flat_map(|value| value.to_le_bytes()).collect();
    serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
}

/// Reads them back, as many as the field holds.
pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<f64>>>(deserializer: D) -> Result<T, D::Error> {
    let values = chunks::<D, 8>(deserializer)?.into_iter().map(f64::from_le_bytes);
    let values: Vec<f64> = values.collect();
    let found = values.len();
    T::try_from(values).map_err(|_| D::Error::custom(format!("not the right number of packed numbers: {found}")))
}

fn chunks<'de, D: Deserializer<'de>, const SIZE: usize>(deserializer: D) -> Result<Vec<[u8; SIZE]>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
    let (numbers, rest) = bytes.as_chunks::<SIZE>();
    if !rest.is_empty() {
        return Err(D::Error::custom(format!("packed numbers are {SIZE} bytes each")));
    }
    Ok(numbers.to_vec())
}

/// The same for numbers of which seven digits are enough.
pub mod short {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use serde::{Deserializer, Serializer};

    /// Writes the numbers as one string.
    pub fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }

    /// Reads them back.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let chunks = super::chunks::<D, 4>(deserializer)?;
        Ok(chunks.into_iter().map(f32::from_le_bytes).collect())
    }
}
