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
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
    let (numbers, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(D::Error::custom("packed numbers are 8 bytes each"));
    }
    let values: Vec<f64> = numbers.iter().map(|bits| f64::from_le_bytes(*bits)).collect();
    let found = values.len();
    T::try_from(values).map_err(|_| D::Error::custom(format!("not the right number of packed numbers: {found}")))
}
