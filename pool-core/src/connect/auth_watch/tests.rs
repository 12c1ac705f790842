//! Every request, in whatever pieces it comes.

use std::future::poll_fn;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;

fn message(letter: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[letter], length.to_be_bytes().as_slice(), body].concat()
}

fn request(method: u32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[method.to_be_bytes().as_slice(), rest].concat())
}

/// What a SCRAM login looks like, from the server's side.
fn scram() -> Vec<u8> {
    [
        message(b'N', b"SNOTICE\0\0"),
        request(10, b"SCRAM-SHA-256\0\0"),
        request(11, b"r=abc,s=def,i=4096"),
        request(12, b"v=ghi"),
        request(0, b""),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// Feeds a watch piece by piece: whether the client was let in, or what was refused.
fn judge(allowed: &str, bytes: &[u8], cuts: &[usize]) -> Result<bool, AuthMethod> {
    let mut watch = AuthWatch::new(allowed.parse().unwrap());
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    for piece in cuts.windows(2) {
        match watch.take(&bytes[piece[0]..piece[1]]) {
            Ok(Seen::LetIn) => return Ok(true),
            Ok(Seen::More) => {}
            Err(error) => return Err(refused(&error).unwrap().asked),
        }
    }
    Ok(false)
}

fn refused(error: &io::Error) -> Option<&AuthRefused> {
    error.get_ref()?.downcast_ref()
}

#[test]
fn every_request() {
    use AuthMethod::*;
    let trust = request(0, b"");
    let then_in = |method, rest: &[u8]| [request(method, rest), trust.clone()].concat();
    let cleartext = then_in(3, b"");
    let md5 = then_in(5, b"salt");
    for (allowed, bytes, judged) in [
        ("none", &trust, Ok(true)),
        ("!none", &trust, Err(None)),
        ("md5", &trust, Err(None)),
        ("scram-sha-256", &scram(), Ok(true)),
        ("!md5,!password", &scram(), Ok(true)),
        ("!scram-sha-256", &scram(), Err(ScramSha256)),
        ("oauth", &scram(), Err(ScramSha256)),
        ("scram-sha-256", &cleartext, Err(Password)),
        ("password", &cleartext, Ok(true)),
        ("scram-sha-256,none", &md5, Err(Md5)),
        ("md5", &md5, Ok(true)),
        ("md5", &then_in(6, b""), Err(Creds)),
        ("md5", &then_in(7, b""), Err(Gss)),
        ("md5", &then_in(9, b""), Err(Sspi)),
        ("!md5", &then_in(2, b""), Err(Unknown)),
        ("!md5", &then_in(99, b""), Err(Unknown)),
        // No answer yet, and one that is no request.
        ("scram-sha-256", &scram()[..60].to_vec(), Ok(false)),
        ("md5", &message(b'E', b"SFATAL\0C28000\0\0"), Ok(false)),
    ] {
        assert_eq!(judge(allowed, bytes, &[]), judged, "{allowed} {bytes:?}");
    }
}

#[test]
fn what_is_too_short_to_be_a_message_ends_the_stream() {
    for bytes in [b"R\0\0\0\x04\0\0\0\0", b"R\0\0\0\x07\0\0\0\0"] {
        let mut watch = AuthWatch::new("none".parse().unwrap());
        let error = watch.take(bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
    let mut watch = AuthWatch::new("none".parse().unwrap());
    assert!(watch.take(b"N\0\0\0\x03").is_err());
}

#[tokio::test]
async fn the_reader_never_sees_a_request_that_is_not_allowed() {
    let (near, mut far) = duplex(64);
    let mut watched = Watched::new(near, Some("!password".parse().unwrap()), None);
    far.write_all(&request(3, b"")[..8]).await.unwrap();
    let mut bytes = [0; 64];
    let read = watched.read(&mut bytes).await.unwrap();
    // Without its last byte it could be any request yet.
    assert_eq!(read, 8);
    far.write_all(&[3]).await.unwrap();
    let mut buf = ReadBuf::new(&mut bytes);
    let polled = poll_fn(|cx| Pin::new(&mut watched).poll_read(cx, &mut buf)).await;
    assert_eq!(
        refused(&polled.unwrap_err()).unwrap().asked,
        AuthMethod::Password
    );
    assert!(buf.filled().is_empty());
}

#[tokio::test]
async fn nothing_is_watched_once_the_client_is_in() {
    let (near, mut far) = duplex(256);
    let mut watched = Watched::new(near, Some("none".parse().unwrap()), None);
    // Data that looks like a request.
    let bytes = [request(0, b""), request(3, b""), b"R\0\0".to_vec()].concat();
    far.write_all(&bytes).await.unwrap();
    let mut read = vec![0; bytes.len()];
    watched.read_exact(&mut read).await.unwrap();
    assert_eq!(read, bytes);
    assert!(watched.watch.is_none());
}

proptest! {
    #[test]
    fn where_it_is_cut_does_not_matter(
        cuts in proptest::collection::vec(0_usize..200, 0..12),
        notice in proptest::collection::vec(any::<u8>(), 0..40),
        allowed in proptest::sample::select(vec!["scram-sha-256", "md5", "!none", "password,none"]),
        method in 0_u32..14,
    ) {
        let exchanges = [scram(), [request(method, b"rest"), request(0, b"")].concat()];
        for exchange in exchanges {
            let bytes = [message(b'N', &notice), exchange].concat();
            prop_assert_eq!(judge(allowed, &bytes, &cuts), judge(allowed, &bytes, &[]));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut watch = AuthWatch::new("md5".parse().unwrap());
        let _judged = watch.take(&bytes);
    }
}
