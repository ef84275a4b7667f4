"""Text and tokens: encoding, incremental decoding, stop strings, truncation, fill-in-the-middle, chats."""
