//! Quantized block formats: the scalar truth of decoding and encoding.
