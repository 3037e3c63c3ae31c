//! The participant for JavaScript.
