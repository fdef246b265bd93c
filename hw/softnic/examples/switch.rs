//! A switch on its own: P4Runtime on one side, DPDK devices on the other.
//!
//! ```text
//! cargo run --release -p softnic --example switch -- 127.0.0.1:9559 1=net_af_packet0,iface=veth1 2=net_af_packet1,iface=veth2
//! ```
//!
//! It runs until it is told to stop. The device's id is 1.

use std::error::Error;

use dpdk::swx::Wire;
use dpdk::{Eal, EalConfig, Memory, Mempool, MempoolConfig, Port, PortConfig};
use softnic::engine::Engine;
use softnic::server::{Config, Server};
use tokio::net::TcpListener;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let address = words.next().ok_or("the address to listen on is missing")?;
    let eal = Eal::init(EalConfig { memory: Memory::Auto { mb: 512 }, ..Default::default() })?;
    let pool = Mempool::new(&eal, "switch", MempoolConfig::default())?;
    let mut wires: Vec<(u32, Box<dyn Wire>)> = Vec::new();
    // A port stops when it goes.
    let mut ports = Vec::new();
    for word in words {
        let (number, device) = word.split_once('=').ok_or_else(|| format!("{word}: NUMBER=DEVICE is wanted"))?;
        eal.add_vdev(device)?;
        let mut port = Port::open(&eal, device, PortConfig::new(pool))?;
        let (mut rx, mut tx) = port.start()?;
        wires.push((number.parse()?, Box::new((rx.remove(0), tx.remove(0)))));
        ports.push(port);
    }
    let engine = Engine::start(eal, wires, None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(&address).await?;
        println!("listening on {}", listener.local_addr()?);
        Server::new(eal, engine, Config::default()).serve(listener, std::future::pending()).await?;
        Ok(())
    })
}
