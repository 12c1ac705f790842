//! A presigned URL, which is the token.
//!
//! [Signature Version 4](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html) with
//! the signature in the query; what is signed for a database is told by [the guide][guide].
//!
//! [guide]: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.html

use std::{
    error::Error as StdError,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tracing::subscriber::{NoSubscriber, with_default};

use crate::topology::HostAddr;

/// How long a token is valid, from the moment at which it is signed.
pub(super) const VALID: Duration = Duration::from_secs(15 * 60);

/// What must be escaped in a query: everything but the letters that URLs leave as they are
/// ([RFC 3986, section 2.3](https://www.rfc-editor.org/rfc/rfc3986#section-2.3)).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const SCHEME: &str = "https://";

/// Why nothing was signed.
type NotSigned = Box<dyn StdError + Send + Sync>;

/// For what, and for how long.
pub(super) struct Signing<'a> {
    pub(super) service: &'a str,
    pub(super) region: &'a str,
    pub(super) valid: Duration,
}

impl<'a> Signing<'a> {
    pub(super) fn for_database(region: &'a str) -> Self {
        Self {
            service: "rds-db",
            region,
            valid: VALID,
        }
    }

    /// The password of a role on a host: a URL without its scheme.
    pub(super) fn token(
        &self,
        host: &HostAddr,
        user: &str,
        identity: Credentials,
        now: SystemTime,
    ) -> Result<String, NotSigned> {
        let user = utf8_percent_encode(user, ESCAPED);
        let url = format!("{SCHEME}{host}/?Action=connect&DBUser={user}");
        let mut signed = self.presign(url, identity, now)?;
        signed.drain(..SCHEME.len());
        Ok(signed)
    }

    /// Adds the signature to a URL's query.
    pub(super) fn presign(
        &self,
        mut url: String,
        identity: Credentials,
        now: SystemTime,
    ) -> Result<String, NotSigned> {
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(self.valid);
        let identity = identity.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(now)
            .settings(settings)
            .build()?
            .into();
        let body = SignableBody::Bytes(b"");
        let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), body)?;
        // What is signed holds the session's token, and would be traced.
        let signed = with_default(NoSubscriber::new(), || sign(request, &params))?;
        let (instructions, _) = signed.into_parts();
        for (name, value) in instructions.params() {
            let separator = if url.contains('?') { '&' } else { '?' };
            let value = utf8_percent_encode(value, ESCAPED);
            // Writing to a text can't fail.
            let _ = write!(url, "{separator}{name}={value}");
        }
        Ok(url)
    }
}
