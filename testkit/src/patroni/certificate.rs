//! The certificate of the REST APIs.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::{Error, process::RunAs};

/// A folder with `ca.pem`, `rest.pem` and `rest.key`. The authority is a certificate of its own,
/// since some clients take no authority's certificate from a server.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) dir: PathBuf,
    pub(super) ca_pem: String,
}

impl Certificate {
    /// Makes one for those addresses.
    pub(super) async fn make(dir: &Path, ips: &[IpAddr], run_as: &RunAs) -> Result<Self, Error> {
        run_as.make_dir(dir)?;
        let names: Vec<String> = ips.iter().map(|ip| format!("IP:{ip}")).collect();
        let config = format!(
            "[req]\n\
             distinguished_name = name\n\
             prompt = no\n\
             [name]\n\
             CN = leadpool testkit\n\
             [authority]\n\
             basicConstraints = critical, CA:TRUE\n\
             keyUsage = critical, keyCertSign\n\
             subjectKeyIdentifier = hash\n\
             [server]\n\
             basicConstraints = CA:FALSE\n\
             extendedKeyUsage = serverAuth\n\
             subjectAltName = {}\n",
            names.join(",")
        );
        fs::write(dir.join("openssl.cnf"), config).map_err(Error::io("openssl.cnf"))?;
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config openssl.cnf";
        for arguments in [
            format!("req -x509 {key} -extensions authority -days 30 -keyout ca.key -out ca.pem"),
            format!("req -new {key} -keyout rest.key -out rest.csr"),
            "x509 -req -in rest.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
             -extfile openssl.cnf -extensions server -days 30 -out rest.pem"
                .to_owned(),
        ] {
            let mut openssl = run_as.command("openssl");
            openssl.args(arguments.split_whitespace()).current_dir(dir);
            run_as.run(openssl).await?;
        }
        let ca_pem = fs::read_to_string(dir.join("ca.pem")).map_err(Error::io("ca.pem"))?;
        Ok(Self {
            dir: dir.to_owned(),
            ca_pem,
        })
    }
}
