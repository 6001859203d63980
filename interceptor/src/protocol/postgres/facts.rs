//! What a statement asks for, in policy words.
