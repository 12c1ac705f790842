//! Signed tokens, for those who give them to strangers and take them back.

use std::fmt;

use ring::hmac;

use super::{ConsistencyToken, InvalidToken};

/// The hash is 32 bytes, and a key should not be easier to guess
/// ([RFC 2104, section 3](https://datatracker.ietf.org/doc/html/rfc2104#section-3)).
const SHORTEST: usize = 32;
/// So that a forged token costs little.
const MOST: usize = 8;
/// What is signed begins with it, so that the keys may have other uses.
const PURPOSE: &str = "leadpool consistency token:";
/// In hexadecimal digits.
const SIGNATURE: usize = 64;
/// A token, a dot, a signature.
const LONGEST: usize = 64 + 1 + SIGNATURE;

/// Keys that sign tokens with HMAC-SHA256, and recognise what they have signed.
///
/// A signed token may go to a browser and come back: one that was made up or changed is refused.
/// The signature hides nothing, and binds the token to nobody: who copies another one's cookie
/// reads at another one's position, no more.
///
/// The first key signs, all of them verify. To change it, put the new one in front, and leave the
/// old one behind it for as long as its tokens should be known.
///
/// ```
/// use leadpool::{consistency::{ConsistencyToken, SigningKeys, TokenError}, topology::Lsn};
///
/// let old = SigningKeys::new([[7; 32]])?;
/// let keys = SigningKeys::new([[8; 32], [7; 32]])?;
/// let token = ConsistencyToken::new(Some(1), 1, Lsn::new(0xAB));
/// assert_eq!(keys.verify(&old.sign(&token)), Ok(token));
/// assert_eq!(old.verify(&keys.sign(&token)), Err(TokenError::Forged));
/// # Ok::<(), leadpool::consistency::WeakKeys>(())
/// ```
#[derive(Clone)]
pub struct SigningKeys {
    /// There is at least one.
    keys: Vec<hmac::Key>,
}

impl SigningKeys {
    /// Keys of at least 32 random bytes each, the one that signs first; 8 at most.
    ///
    /// # Errors
    ///
    /// There is none, one is too short, or there are too many.
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Result<Self, WeakKeys> {
        let mut read = Vec::new();
        for (at, key) in keys.into_iter().enumerate() {
            let (key, number) = (key.as_ref(), at + 1);
            if number > MOST {
                return Err(WeakKeys::TooMany);
            }
            if key.len() < SHORTEST {
                let bytes = key.len();
                return Err(WeakKeys::TooShort { number, bytes });
            }
            read.push(hmac::Key::new(hmac::HMAC_SHA256, key));
        }
        if read.is_empty() {
            return Err(WeakKeys::None);
        }
        Ok(Self { keys: read })
    }

    /// The token with its signature: letters, digits and dots only, 129 bytes at most.
    #[must_use]
    pub fn sign(&self, token: &ConsistencyToken) -> String {
        let text = token.to_string();
        let tag = hmac::sign(&self.keys[0], &signed(&text));
        let digits = tag.as_ref().iter().map(|byte| format!("{byte:02x}"));
        format!("{text}.{}", digits.collect::<String>())
    }

    /// The token of a text that one of the keys has signed. The comparison takes as long for any
    /// signature that is wrong.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn verify(&self, text: &str) -> Result<ConsistencyToken, TokenError> {
        if text.len() > LONGEST {
            return Err(TokenError::TooLong);
        }
        let (token, signature) = text.rsplit_once('.').ok_or(TokenError::NotSigned)?;
        let signature = bytes(signature).ok_or(TokenError::NotSigned)?;
        let message = signed(token);
        let mut keys = self.keys.iter();
        if !keys.any(|key| hmac::verify(key, &message, &signature).is_ok()) {
            return Err(TokenError::Forged);
        }
        // By another version, which has the same keys.
        token.parse().map_err(TokenError::Invalid)
    }
}

fn signed(token: &str) -> Vec<u8> {
    [PURPOSE.as_bytes(), token.as_bytes()].concat()
}

/// Reads a signature as it is written: lower case only, so that one token has one text.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if digits.len() != SIGNATURE {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| Some((digit(&pair[0])? << 4) | digit(&pair[1])?))
        .collect()
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// Keys that nothing should be signed with.
///
/// ```
/// use leadpool::consistency::{SigningKeys, WeakKeys};
///
/// let weak = SigningKeys::new(["hunter2"]).unwrap_err();
/// assert_eq!(weak, WeakKeys::TooShort { number: 1, bytes: 7 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeakKeys {
    /// There is none.
    #[error("no key to sign tokens with: give one of 32 random bytes or more")]
    None,
    /// One is too short.
    #[error("key {number} to sign tokens with has {bytes} bytes: give it 32 random ones or more")]
    TooShort {
        /// Which one, from 1.
        number: usize,
        /// How long it is.
        bytes: usize,
    },
    /// There are more than 8.
    #[error("more than 8 keys to sign tokens with: each is tried on every token, drop old ones")]
    TooMany,
}

/// A text that is no token of ours. It is not repeated here: anybody may have sent it.
///
/// ```
/// use leadpool::consistency::{SigningKeys, TokenError};
///
/// let keys = SigningKeys::new([[7; 32]])?;
/// assert_eq!(keys.verify("lp1.7.1.AB"), Err(TokenError::NotSigned));
/// # Ok::<(), leadpool::consistency::WeakKeys>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is longer than any signed token, and was not looked at.
    #[error("not a signed consistency token: longer than 129 bytes")]
    TooLong,
    /// It does not end with a signature: something else, or cut.
    #[error("not a signed consistency token: no signature at its end, or only a part of one")]
    NotSigned,
    /// None of the keys has signed it: made up, changed, or signed with a key that is not among
    /// them (any more).
    #[error("a consistency token that none of the keys has signed: forged, or of a key given up")]
    Forged,
    /// One of the keys has signed it, and yet it can't be read: it is of another version of
    /// leadpool.
    #[error("signed, but {0}")]
    Invalid(InvalidToken),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Lsn;

    fn token() -> ConsistencyToken {
        ConsistencyToken::new(Some(u64::MAX), u32::MAX, Lsn::new(u64::MAX))
    }

    fn keys() -> SigningKeys {
        SigningKeys::new([[1; 32], [2; 32]]).unwrap()
    }

    #[test]
    fn what_was_signed_is_known_also_by_the_second_key() {
        let old = SigningKeys::new([[2; 32]]).unwrap();
        for token in [token(), ConsistencyToken::of_writer(None)] {
            assert_eq!(keys().verify(&keys().sign(&token)), Ok(token));
            assert_eq!(keys().verify(&old.sign(&token)), Ok(token));
        }
        assert!(keys().sign(&token()).len() <= LONGEST);
    }

    #[test]
    fn what_was_cut_or_changed_is_refused() {
        let text = keys().sign(&token());
        for at in 0..text.len() {
            assert!(keys().verify(&text[..at]).is_err(), "cut at {at}");
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(keys().verify(&changed).is_err(), "{changed}");
        }
        // The signature of another token.
        let other = keys().sign(&ConsistencyToken::of_writer(None));
        let (_, signature) = other.rsplit_once('.').unwrap();
        let forged = format!("{}.{signature}", token());
        assert_eq!(keys().verify(&forged), Err(TokenError::Forged));
        let upper = text.to_uppercase().replacen("LP1", "lp1", 1);
        assert_eq!(keys().verify(&upper), Err(TokenError::NotSigned));
    }

    #[test]
    fn a_foreign_key_gibberish_and_bombs_are_refused() {
        let foreign = SigningKeys::new([[3; 32]]).unwrap();
        let forged = foreign.sign(&token());
        assert_eq!(keys().verify(&forged), Err(TokenError::Forged));
        for text in [
            "",
            ".",
            "é",
            "lp1.7.1.AB",
            "\0",
            "a.b.c",
            &token().to_string(),
        ] {
            assert_eq!(keys().verify(text), Err(TokenError::NotSigned), "{text}");
        }
        let bomb = "a.".repeat(10_000_000);
        assert_eq!(keys().verify(&bomb), Err(TokenError::TooLong));
        // Signed by us, in words that we don't know yet.
        let tag = hmac::sign(&keys().keys[0], &signed("lp2.x"));
        let digits = tag.as_ref().iter().map(|byte| format!("{byte:02x}"));
        let newer = format!("lp2.x.{}", digits.collect::<String>());
        let invalid = TokenError::Invalid(InvalidToken::OtherFormat);
        assert_eq!(keys().verify(&newer), Err(invalid));
    }

    #[test]
    fn weak_keys_are_refused_and_none_shows() {
        let none: [[u8; 32]; 0] = [];
        assert_eq!(SigningKeys::new(none).unwrap_err(), WeakKeys::None);
        let weak = SigningKeys::new([vec![1; 32], vec![1; 31]]).unwrap_err();
        let short = WeakKeys::TooShort {
            number: 2,
            bytes: 31,
        };
        assert_eq!(weak, short);
        let many = SigningKeys::new(vec![[1; 32]; 9]).unwrap_err();
        assert_eq!(many, WeakKeys::TooMany);
        let secret = "correct horse battery staple, twice";
        let shown = format!("{:?}", SigningKeys::new([secret]).unwrap());
        assert_eq!(shown, "SigningKeys { keys: 1, .. }");
    }
}
