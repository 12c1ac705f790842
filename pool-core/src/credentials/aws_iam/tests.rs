//! The signature by published figures, and how often AWS is asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::UNIX_EPOCH,
};

use aws_credential_types::{Credentials as Identity, provider::future};
use aws_types::region::Region;
use futures_util::future::join_all;
use tokio::time::{advance, sleep};

use super::*;

const HOST: &str = "prod-instance.us-east-1.rds.amazonaws.com";
/// 2015-08-30 12:36:00, the moment of AWS's test suite.
const SUITE: u64 = 1_440_938_160;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn identity(id: &str, secret: &str, session: Option<&str>) -> Identity {
    Identity::new(id, secret, session.map(str::to_owned), None, "test")
}

/// The cases of [AWS's suite](https://github.com/awslabs/aws-c-auth/tree/main/tests/aws-signing-test-suite/v4)
/// in which the signature goes into the query and the host is the only header.
#[test]
fn signatures_are_those_of_the_published_suite() {
    let signing = Signing {
        service: "service",
        region: "us-east-1",
        valid: Duration::from_secs(3600),
    };
    let letters = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let session = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    let cases = [
        (
            "get-vanilla-query",
            String::new(),
            None,
            "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d",
        ),
        (
            "get-vanilla-query-order-key-case",
            "?Param2=value2&Param1=value1".to_owned(),
            None,
            "86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5",
        ),
        (
            "get-vanilla-query-unreserved",
            format!("?{letters}={letters}"),
            None,
            "8e76a88a7433637b12778d5592799b29ad21ecd6cf6325051c21d86f0acda2bf",
        ),
        (
            "get-vanilla-utf8-query",
            "?%E1%88%B4=bar".to_owned(),
            None,
            "0bdd809b1519ac4f0c1dc3540e2cc46bd0c7f778eda408b2ebf3b913d21ff600",
        ),
        (
            "get-vanilla-with-session-token",
            String::new(),
            Some(session),
            "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c",
        ),
    ];
    for (name, query, session, signature) in cases {
        let key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let url = format!("https://example.amazonaws.com/{query}");
        let identity = identity("AKIDEXAMPLE", key, session);
        let signed = signing.presign(url.clone(), identity, at(SUITE)).unwrap();
        assert!(signed.starts_with(&url), "{name}: {signed}");
        assert!(
            signed.contains(&format!("&X-Amz-Signature={signature}")),
            "{name}: {signed}"
        );
        assert!(signed.contains(
            "X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fservice%2Faws4_request&\
             X-Amz-Date=20150830T123600Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host"
        ));
    }
}

/// The tokens that the tests of AWS's SDK for Rust (`signing_works` of `rds_auth_token.rs`) and of
/// [botocore](https://github.com/boto/botocore/blob/develop/tests/unit/test_signers.py) expect.
#[test]
fn tokens_are_those_of_other_signers() {
    for (user, secret, moment, date, signature) in [
        (
            "peccy",
            "secret",
            1_724_709_600,
            "20240826T220000Z",
            "dd0cba843009474347af724090233265628ace491ea17ce3eb3da098b983ad89",
        ),
        (
            "someusername",
            "skid",
            1_478_540_373,
            "20161107T173933Z",
            "d1138cdbc0ca63eec012ec0fc6c2267e03642168f5884a7795320d4c18374c61",
        ),
    ] {
        let host = HostAddr::new(HOST, 3306);
        let identity = identity("akid", secret, None);
        let token = Signing::for_database("us-east-1")
            .token(&host, user, identity, at(moment))
            .unwrap();
        assert_eq!(
            token,
            format!(
                "{HOST}:3306/?Action=connect&DBUser={user}&X-Amz-Algorithm=AWS4-HMAC-SHA256&\
                 X-Amz-Credential=akid%2F{}%2Fus-east-1%2Frds-db%2Faws4_request&\
                 X-Amz-Date={date}&X-Amz-Expires=900&X-Amz-SignedHeaders=host&\
                 X-Amz-Signature={signature}",
                &date[..8]
            )
        );
    }
}

#[test]
fn a_role_may_have_any_name_and_a_session_goes_along() {
    let host = HostAddr::new(HOST, 5432);
    let identity = identity("akid", "secret", Some("FwoG/session+token=="));
    let token = Signing::for_database("us-east-1")
        .token(&host, "a b+c@d&é", identity, at(SUITE))
        .unwrap();
    assert!(
        token.contains("/?Action=connect&DBUser=a%20b%2Bc%40d%26%C3%A9&X-Amz-Algorithm="),
        "{token}"
    );
    assert!(
        token.contains("&X-Amz-Security-Token=FwoG%2Fsession%2Btoken%3D%3D"),
        "{token}"
    );
}

/// Counts how often it is asked, takes its time, and fails or ends as it is told.
#[derive(Debug, Default)]
struct Source {
    asked: AtomicUsize,
    failing: AtomicUsize,
    /// For how many seconds its credentials are good; 0: for ever.
    lifetime: AtomicU64,
}

impl Source {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Source>);

impl ProvideCredentials for Shared {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let number = self.0.asked.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(100)).await;
            let failing = self.0.failing.load(Ordering::SeqCst);
            if number < failing {
                return Err(CredentialsError::provider_error("no route"));
            }
            let end = match self.0.lifetime.load(Ordering::SeqCst) {
                0 => None,
                seconds => Some(at(SUITE + seconds)),
            };
            // Another key each time, so that each token is another.
            Ok(Identity::new(
                format!("akid{number}"),
                "secret",
                None,
                end,
                "test",
            ))
        })
    }
}

fn iam() -> (AwsIam, Arc<Source>) {
    let source = Shared::default();
    let mut iam = AwsIam::new(source.clone());
    iam.now = || at(SUITE);
    (iam, source.0)
}

fn request(host: &str, user: &str) -> CredentialRequest {
    CredentialRequest::new(HostAddr::new(host, 5432), user, "shop")
}

const DB1: &str = "db1.c0ffee.eu-west-1.rds.amazonaws.com";
const DB2: &str = "db2.c0ffee.eu-west-1.rds.amazonaws.com";

async fn token(iam: &AwsIam, request: &CredentialRequest) -> Secret {
    iam.provide(request).await.unwrap().password.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_token_is_used_for_14_minutes() {
    let (iam, source) = iam();
    let app = request(DB1, "app");
    let first = token(&iam, &app).await;
    advance(Duration::from_secs(839)).await;
    assert_eq!(token(&iam, &app).await, first);
    assert_eq!(source.asked(), 1);
    advance(Duration::from_secs(1)).await;
    assert_ne!(token(&iam, &app).await, first);
    assert_eq!(source.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_host_and_role_has_its_own() {
    let (iam, source) = iam();
    let other_port = CredentialRequest::new(HostAddr::new(DB1, 5433), "app", "shop");
    let requests = [
        request(DB1, "app"),
        request(DB1, "till"),
        request(DB2, "app"),
        other_port,
    ];
    for (at, asked) in requests.iter().enumerate() {
        let mine = token(&iam, asked).await;
        assert_eq!(token(&iam, asked).await, mine);
        assert!(mine.expose().starts_with(&format!(
            "{}/?Action=connect&DBUser={}&",
            asked.host, asked.user
        )));
        assert_eq!(source.asked(), at + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn no_token_outlives_the_credentials_that_signed_it() {
    let (iam, source) = iam();
    source.lifetime.store(60, Ordering::SeqCst);
    let app = request(DB1, "app");
    let first = token(&iam, &app).await;
    advance(Duration::from_secs(59)).await;
    assert_eq!(token(&iam, &app).await, first);
    advance(Duration::from_secs(1)).await;
    assert_ne!(token(&iam, &app).await, first);
    assert_eq!(source.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_share_one_fetch() {
    let (iam, source) = iam();
    let app = request(DB1, "app");
    let tokens = join_all((0..100).map(|_| token(&iam, &app))).await;
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(source.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_share_one_failure_and_the_next_one_asks_again() {
    let (iam, source) = iam();
    source.failing.store(1, Ordering::SeqCst);
    let app = request(DB1, "app");
    let failures = join_all((0..100).map(|_| iam.provide(&app))).await;
    for failure in failures {
        let failure = failure.unwrap_err();
        let failure = failure.downcast::<CredentialError>().unwrap();
        assert!(!failure.is_permanent());
    }
    assert_eq!(source.asked(), 1);
    token(&iam, &app).await;
    assert_eq!(source.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_leaves_the_fetch_to_the_next() {
    let (iam, source) = iam();
    let app = request(DB1, "app");
    let hasty = tokio::time::timeout(Duration::from_millis(50), token(&iam, &app));
    let (hasty, patient) = futures_util::future::join(hasty, token(&iam, &app)).await;
    assert!(hasty.is_err());
    assert!(!patient.expose().is_empty());
    assert_eq!(source.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn of_many_whose_token_was_refused_one_fetches_another() {
    let (iam, source) = iam();
    let app = request(DB1, "app");
    let old = token(&iam, &app).await;
    let mut refused = app.clone();
    refused.rejected = Some(Credentials::from(old.clone()));
    let tokens = join_all((0..10).map(|_| token(&iam, &refused))).await;
    assert!(
        tokens
            .iter()
            .all(|token| *token == tokens[0] && *token != old)
    );
    assert_eq!(source.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_region_is_the_one_that_is_set_then_that_of_the_name_then_that_of_the_sdk() {
    let region = async |iam: &AwsIam, host: &str| {
        let token = iam.provide(&request(host, "app")).await;
        token.map(|token| {
            let token = token.password.unwrap();
            let scope = token.expose().split("%2F").nth(2).map(str::to_owned);
            scope.unwrap()
        })
    };
    let sdk = SdkConfig::builder()
        .credentials_provider(SharedCredentialsProvider::new(Shared::default()))
        .region(Region::new("us-west-2"))
        .build();
    let iam_of_sdk = || {
        let mut iam = AwsIam::from_sdk_config(&sdk).unwrap();
        iam.now = || at(SUITE);
        iam
    };
    assert_eq!(region(&iam_of_sdk(), DB1).await.unwrap(), "eu-west-1");
    assert_eq!(
        region(&iam_of_sdk(), "db1.test").await.unwrap(),
        "us-west-2"
    );
    let set = iam_of_sdk().region("eu-central-1");
    assert_eq!(region(&set, DB1).await.unwrap(), "eu-central-1");
    let alias = iam().0.endpoint(HostAddr::new(DB2, 5433));
    assert_eq!(region(&alias, "db1.test").await.unwrap(), "eu-west-1");
    let signed = token(&alias, &request("db1.test", "app")).await;
    assert!(signed.expose().starts_with(&format!("{DB2}:5433/?")));

    let unknown = region(&iam().0, "db1.test").await.unwrap_err();
    let unknown = unknown.downcast::<CredentialError>().unwrap();
    assert!(unknown.is_permanent() && unknown.to_string().contains("AwsIam::region"));
    let empty = AwsIam::from_sdk_config(&SdkConfig::builder().build()).unwrap_err();
    assert!(empty.is_permanent());
}

#[tokio::test(start_paused = true)]
async fn credentials_that_have_expired_sign_nothing() {
    let (mut iam, source) = iam();
    source.lifetime.store(60, Ordering::SeqCst);
    iam.now = || at(SUITE + 60);
    let error = iam.provide(&request(DB1, "app")).await.unwrap_err();
    let error = error.downcast::<CredentialError>().unwrap();
    assert!(!error.is_permanent() && error.to_string().contains("expired"));
}

/// Takes down whatever is traced, at every level.
#[derive(Clone, Default)]
struct Written(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn nothing_of_it_is_traced() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    with_subscriber(subscriber, || {
        tracing::trace!("it is on");
        let identity = identity("akid", "hunter2", Some("hunter3"));
        let host = HostAddr::new(HOST, 5432);
        Signing::for_database("us-east-1")
            .token(&host, "app", identity, at(SUITE))
            .unwrap();
    });
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("it is on"));
    assert!(!text.contains("hunter"), "{text}");
}

fn with_subscriber<T>(subscriber: impl Into<tracing::Dispatch>, run: impl FnOnce() -> T) -> T {
    tracing::dispatcher::with_default(&subscriber.into(), run)
}
