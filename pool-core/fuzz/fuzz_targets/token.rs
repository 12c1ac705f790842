//! Consistency tokens, plain and signed, as strangers hand them back.

#![no_main]

use leadpool::consistency::{ConsistencyToken, SigningKeys};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let keys = SigningKeys::new([[7; 32], [8; 32]]).expect("two keys");
    // Nobody here has the keys: what they know they have signed.
    assert!(keys.verify(text).is_err());
    let Ok(token) = text.parse::<ConsistencyToken>() else {
        return;
    };
    assert_eq!(token.to_string(), text, "one text for one token");
    let signed = keys.sign(&token);
    assert_eq!(keys.verify(&signed), Ok(token));
    assert!(signed.parse::<ConsistencyToken>().is_err());
});
