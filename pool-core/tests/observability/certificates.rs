//! Certificates that are replaced: by nothing of use, and by others.

use crate::{
    capture::{Capture, Line},
    tls::*,
};

pub(crate) async fn play(seen: &Capture) {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = Folder::new();
    let path = folder.put("root.crt", &old.pem());
    let servers = start(Some(old.sign(&["127.0.0.1"]).server()), &[], 0).await;
    let parameters = format!("sslmode=verify-full&{}", root(&path));
    let url = url(&servers, "127.0.0.1", &parameters);
    let pool = connect_with(&url, |config| config.pool_name("certificates"))
        .await
        .unwrap();
    // Each opens a connection.
    let first = pool.get().await.unwrap();
    assert!(told(seen, "leadpool.certificates_read").is_empty());
    folder.put("root.crt", "nonsense");
    let second = pool.get().await.unwrap();
    let third = pool.get().await.unwrap();
    let refused = told(seen, "leadpool.certificates_refused");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].value("leadpool.setting"), "sslrootcert");
    let problem = refused[0].value("leadpool.problem");
    assert!(problem.contains(path.to_str().unwrap()), "{problem}");
    folder.put("root.crt", &(old.pem() + &new.pem()));
    let fourth = pool.get().await.unwrap();
    assert_eq!(told(seen, "leadpool.certificates_read").len(), 1);
    drop((first, second, third, fourth));
}

/// Files have no pool; no other play has some.
fn told(seen: &Capture, name: &str) -> Vec<Line> {
    let mut lines = seen.lines();
    lines.retain(|line| line.name == name);
    lines
}
