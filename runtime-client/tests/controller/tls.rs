use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use runtime_client::fake::{FakeConfig, FakeTarget, FakeTls};
use runtime_client::write::Outcome;
use runtime_client::{Address, Client, Config, Standing, Tls};

use crate::common::{Flow, config, in_time, insert, target, until};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key, as PEM.
fn issue(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.into()]).unwrap().signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

async fn tls_target(of: &Authority, clients_of: Option<&Authority>) -> FakeTarget {
    let (certificate, key) = issue(of, "switch.test");
    let client_authority = clients_of.map(|authority| authority.pem());
    let tls = Some(FakeTls { certificate, key, client_authority });
    target(FakeConfig { tls, ..FakeConfig::default() }).await
}

fn start(target: &FakeTarget, tls: Tls) -> Client {
    let address = Address::tls(format!("127.0.0.1:{}", target.port()), tls);
    let (client, _events) = Client::start(Config { address, ..config(target, 1) }).expect("good certificates");
    client
}

fn trusting(authority: &Authority) -> Tls {
    Tls { authority: Some(authority.pem().into_bytes()), identity: None, server_name: Some("switch.test".into()) }
}

fn with_identity(tls: Tls, (certificate, key): (String, String)) -> Tls {
    Tls { identity: Some((certificate.into_bytes(), key.into_bytes())), ..tls }
}

/// It goes on trying, and never gets in.
async fn stays_out(client: &Client) {
    until(|| client.stats().attempts > 2).await;
    assert_eq!(
        (client.standing(), client.stats().connections),
        (Standing::Disconnected, 0),
        "{}",
        client.last_failure()
    );
}

#[tokio::test]
async fn tls_works_and_survives_a_cut() {
    let authority = authority();
    let target = tls_target(&authority, None).await;
    let client = start(&target, trusting(&authority));
    in_time(client.wait_for(Standing::is_primary)).await;
    target.disconnect();
    in_time(client.wait_for(|standing| !standing.is_connected())).await;
    in_time(client.wait_for(Standing::is_primary)).await;
    assert_eq!(insert(&client, Flow::new(1, 1)).await, Outcome::Applied);
}

#[tokio::test]
async fn targets_of_strangers_or_with_another_name_are_not_talked_to() {
    let (own, stranger) = (authority(), authority());
    let target = tls_target(&own, None).await;
    stays_out(&start(&target, trusting(&stranger))).await;
    stays_out(&start(&target, Tls { server_name: Some("other.test".into()), ..trusting(&own) })).await;
    // 127.0.0.1 is not in the certificate either.
    stays_out(&start(&target, Tls { server_name: None, ..trusting(&own) })).await;
}

#[tokio::test]
async fn plain_and_tls_do_not_meet() {
    let own = authority();
    let with_tls = tls_target(&own, None).await;
    let (plain_client, _events) = Client::start(config(&with_tls, 1)).expect("a good config");
    until(|| plain_client.stats().attempts > 2).await;
    assert!(!plain_client.standing().is_primary());
    let plain = target(FakeConfig::default()).await;
    stays_out(&start(&plain, trusting(&own))).await;
}

#[tokio::test]
async fn mutual_tls_lets_known_clients_in_only() {
    let (own, stranger) = (authority(), authority());
    let target = tls_target(&own, Some(&own)).await;
    let client = start(&target, with_identity(trusting(&own), issue(&own, "controller.test")));
    in_time(client.wait_for(Standing::is_primary)).await;
    drop(client);
    for tls in [trusting(&own), with_identity(trusting(&own), issue(&stranger, "controller.test"))] {
        let client = start(&target, tls);
        until(|| client.stats().attempts > 2).await;
        // In TLS 1.3 the client is refused after it believes to be connected.
        assert!(!client.standing().is_primary(), "{}", client.last_failure());
        assert_eq!(client.stats().connections, 0);
    }
}
