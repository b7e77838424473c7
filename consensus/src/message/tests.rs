//! Tests of the bytes of messages.
