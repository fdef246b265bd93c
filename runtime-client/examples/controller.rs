//! A small controller: connects, becomes primary or waits as backup, and shows what the target has and sends.
//!
//! ```text
//! cargo run -p runtime-client --example controller -- HOST:PORT [--device 1] [--id 1] [--role NAME]
//!     [--ca ca.pem] [--cert client.pem --key client.key] [--name switch.example] [--counters]
//! ```

use std::error::Error;
use std::fs;

use runtime_client::{Address, Client, Config, ElectionId, Event, Events, Query, Role, Standing, Tls};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (config, counters) = options()?;
    let (client, events) = Client::start(config)?;
    println!("connecting");
    if client.wait_for(|standing| standing.is_connected()).await.is_connected() {
        println!("connected; P4Runtime {}", client.api_version().await.unwrap_or_else(|error| format!("({error})")));
        show_tables(&client, counters).await;
    }
    follow(&client, events).await;
    Ok(())
}

fn options() -> Result<(Config, bool), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let target = words.next().ok_or("the target's HOST:PORT is missing")?;
    let mut config = Config::new(Address::tcp(target), 1);
    let (mut counters, mut certificate, mut key) = (false, None, None);
    while let Some(word) = words.next() {
        if word == "--counters" {
            counters = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let tls = &mut config.address.tls;
        match word.as_str() {
            "--device" => config.device_id = value.parse()?,
            "--id" => config.election_id = Some(ElectionId(value.parse()?)),
            "--role" => config.role = Role::named(value),
            "--ca" => tls.get_or_insert_with(Tls::default).authority = Some(fs::read(value)?),
            "--name" => tls.get_or_insert_with(Tls::default).server_name = Some(value),
            "--cert" => certificate = Some(fs::read(value)?),
            "--key" => key = Some(fs::read(value)?),
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    if let (Some(certificate), Some(key)) = (certificate, key) {
        config.address.tls.get_or_insert_with(Tls::default).identity = Some((certificate, key));
    }
    Ok((config, counters))
}

/// Each table of the running program with its number of entries, and what its counters sum up to.
async fn show_tables(client: &Client, counters: bool) {
    let info = match client.p4info().await {
        Ok(Some(info)) => info,
        Ok(None) => return println!("no program runs"),
        Err(error) => return println!("no P4Info: {error}"),
    };
    for table in &info.tables {
        let Some(preamble) = &table.preamble else { continue };
        let counted = counters && info.direct_counters.iter().any(|counter| counter.direct_table_id == preamble.id);
        let query = Query::table(preamble.id);
        let query = if counted { query.with_counters() } else { query };
        let entries = match client.read(query).await {
            Ok(reading) => reading.all().await,
            Err(error) => Err(error),
        };
        match entries {
            Ok(entries) => {
                let packets: i64 =
                    entries.iter().filter_map(|entry| entry.counter_data).map(|of| of.packet_count).sum();
                let packets = if counted { format!(", {packets} packets") } else { String::new() };
                println!("{}: {} of {} entries{packets}", preamble.name, entries.len(), table.size);
            }
            Err(error) => println!("{}: {error}", preamble.name),
        }
    }
}

/// Shows what happens until the program is ended.
async fn follow(client: &Client, mut events: Events) {
    let mut changes = client.changes();
    println!("standing: {:?}", client.standing());
    loop {
        tokio::select! {
            standing = changes.next() => match standing {
                Some(Standing::Disconnected) => println!("disconnected: {}", client.last_failure()),
                Some(standing) => println!("standing: {standing:?}"),
                None => return,
            },
            event = events.next() => match event {
                Some(Event::Packet(packet)) => println!("packet of {} bytes", packet.payload.len()),
                Some(Event::Idle(notice)) => println!("{} idle entries", notice.table_entry.len()),
                Some(Event::Digest(digest)) => println!("digest {} of {}", digest.list_id, digest.digest_id),
                Some(Event::Error(error)) => println!("error {}: {}", error.canonical_code, error.message),
                None => return,
            },
        }
    }
}
