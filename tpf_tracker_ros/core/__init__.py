"""Pure numpy: frame pairs, boxes, crops, pairing, registration, thermal range, NDTU."""
