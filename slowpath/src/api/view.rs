//! From plan and counters to what the API says. Nothing is counted here a second time.

use std::net::SocketAddr;

use carom_p4::Punt;
use fullnat::counters::{Counters, Traffic};
use fullnat::id::{ServerId, ServiceId};
use fullnat::plan::{self, Plan};
use fullnat::reason::DropReason;

use super::model::*;
use super::source::{ForwardedOf, Source, TargetState};
use crate::config::switch::LINK;
use crate::control::{PortRecord, SessionRecord};
use crate::daemon::SessionPage;
use crate::offload;
use crate::softnic;

/// Milliseconds since the start.
pub fn uptime_ms(source: &impl Source) -> u64 {
    source.uptime().as_millis() as u64
}

/// Sums over all workers.
pub fn totals(source: &impl Source) -> WorkerCounters {
    let mut totals = WorkerCounters::default();
    for counters in source.counters() {
        add_worker(&mut totals, counters);
    }
    totals
}

/// What the target is: `none` when the slow path works alone, `unknown` when there is nobody left who would know.
pub fn target_kind(target: &TargetState) -> &str {
    match target {
        None => "none",
        Some(Ok(status)) => &status.kind,
        Some(Err(offload::Gone)) => "unknown",
    }
}

/// `GET /v1/status`.
pub fn status(source: &impl Source, target: &TargetState) -> Status {
    let plan = source.plan();
    let settled = source.settled();
    let (buffers_free, buffers_used) = source.buffers();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_ms: uptime_ms(source),
        generation: plan.generation,
        config_path: settled.config_path.clone(),
        target: target_kind(target).to_owned(),
        offload: target.as_ref().and_then(|target| target.as_ref().ok()).map(|target| Offload {
            address: target.address.clone(),
            standing: target.standing.clone(),
            ready: target.ready,
            sessions: target.sessions.offloaded,
        }),
        hugepages: settled.hugepages,
        memory_bytes: settled.memory_bytes,
        buffers_free,
        buffers_used,
        tables_hugepages: settled.tables_hugepages,
        tables_bytes: settled.tables_bytes,
        workers: source.counters().len(),
        interfaces: plan.interfaces.len(),
        services: plan.services().count(),
        servers: plan.servers().count(),
        session_capacity: settled.session_capacity,
        totals: totals(source),
    }
}

/// `GET /v1/services`.
pub fn services(source: &impl Source) -> Services {
    let plan = source.plan();
    let services = plan.services().map(|service| one_service(&plan, service, source)).collect();
    Services { uptime_ms: uptime_ms(source), services }
}

fn one_service(plan: &Plan, service: &plan::Service, source: &impl Source) -> Service {
    let servers = || service.servers.iter().filter_map(|&id| plan.server(id));
    Service {
        name: service.name.clone(),
        address: service_address(service),
        proto: service.proto.into(),
        scheduler: service.scheduler.name().to_owned(),
        pool: plan.pools.get(service.pool).map(|p| p.name.clone()).unwrap_or_default(),
        toa: service.toa,
        persistence_ms: service.persistence.map(|p| p.timeout_ms),
        servers: servers().count(),
        servers_weighted: servers().filter(|s| s.weight > 0).count(),
        active_sessions: servers().map(|s| u64::from(s.shared.active())).sum(),
        traffic: service_traffic(source, service.id),
    }
}

/// `GET /v1/servers`: by service, in configured order.
pub fn servers(source: &impl Source) -> Servers {
    let plan = source.plan();
    let servers = plan
        .services()
        .flat_map(|service| service.servers.iter().filter_map(|&id| plan.server(id)).map(move |s| (service, s)))
        .map(|(service, server)| Server {
            service: service.name.clone(),
            vip: service_address(service),
            proto: service.proto.into(),
            address: server_address(server),
            weight: server.weight,
            max_connections: server.max_connections,
            active_sessions: u64::from(server.shared.active()),
            traffic: server_traffic(source, server.id),
        })
        .collect();
    Servers { uptime_ms: uptime_ms(source), servers }
}

/// VIP:vport.
pub fn service_address(service: &plan::Service) -> SocketAddr {
    SocketAddr::new(service.vip, service.vport.0)
}

/// RIP:rport.
pub fn server_address(server: &plan::Server) -> SocketAddr {
    SocketAddr::new(server.rip, server.rport.0)
}

/// A service's traffic over all workers.
fn service_traffic(source: &impl Source, id: ServiceId) -> TrafficCounters {
    sum_traffic(source.counters().iter().map(|c| c.service(id)))
}

/// A real server's traffic over all workers.
fn server_traffic(source: &impl Source, id: ServerId) -> TrafficCounters {
    sum_traffic(source.counters().iter().map(|c| c.server(id)))
}

fn sum_traffic<'a>(parts: impl Iterator<Item = &'a Traffic>) -> TrafficCounters {
    let mut sum = TrafficCounters::default();
    for traffic in parts {
        sum.sessions_total += traffic.sessions.get();
        sum.sessions_refused += traffic.refused.get();
        sum.sessions_evicted += traffic.evicted.get();
        sum.packets_in += traffic.packets_in.get();
        sum.packets_out += traffic.packets_out.get();
        sum.bytes_in += traffic.bytes_in.get();
        sum.bytes_out += traffic.bytes_out.get();
    }
    sum
}

/// `GET /v1/sessions`, from a page the workers gave.
pub fn sessions(source: &impl Source, page: SessionPage, forwarded: &ForwardedOf) -> Sessions {
    let plan = source.plan();
    let sessions = page.sessions.iter().map(|record| one_session(&plan, record, forwarded)).collect();
    Sessions { uptime_ms: uptime_ms(source), sessions, next: page.next }
}

/// What the target forwarded and the worker was not told yet is added to what the worker knows.
fn one_session(plan: &Plan, record: &SessionRecord, forwarded: &ForwardedOf) -> Session {
    let view = &record.view;
    let forwarded = forwarded.get(&(record.worker, view.place));
    let untold = forwarded.map_or([0; 2], |forwarded| forwarded.untold.packets);
    let total = |side: usize| forwarded.map(|forwarded| (forwarded.total.packets[side], forwarded.total.bytes[side]));
    Session {
        proto: view.proto.into(),
        state: view.state.name().to_owned(),
        offload: view.offload.name().to_owned(),
        client: view.client,
        vip: view.vip,
        local: view.local,
        server: view.server,
        service: plan.service(view.service).map(|s| s.name.clone()),
        worker: record.worker.0,
        age_ms: view.age_ms,
        idle_ms: view.idle_ms,
        expires_ms: view.expires_ms,
        packets_in: u64::from(view.packets_in) + untold[0],
        packets_out: u64::from(view.packets_out) + untold[1],
        target_packets_in: total(0).map(|t| t.0),
        target_packets_out: total(1).map(|t| t.0),
        target_bytes_in: total(0).map(|t| t.1),
        target_bytes_out: total(1).map(|t| t.1),
    }
}

/// `GET /v1/ports`, from the records the workers gave.
pub fn ports(source: &impl Source, records: &[PortRecord]) -> Ports {
    let ports = records
        .iter()
        .map(|PortRecord { worker, view }| PortUse {
            worker: worker.0,
            proto: view.proto.into(),
            local: view.local,
            server: view.server,
            total: u64::from(view.total),
            in_use: u64::from(view.in_use),
            quarantined: u64::from(view.quarantined),
            exhausted: view.exhausted,
        })
        .collect();
    Ports { uptime_ms: uptime_ms(source), ports }
}

/// `GET /v1/drops`.
pub fn drops(source: &impl Source, target: &TargetState, traffic: Option<&softnic::Traffic>) -> Drops {
    let drops: Vec<Drop> = DropReason::ALL
        .iter()
        .map(|&reason| {
            let by_worker: Vec<u64> = source.counters().iter().map(|c| c.dropped(reason)).collect();
            Drop {
                reason: reason.name().to_owned(),
                number: reason as u8,
                total: by_worker.iter().sum(),
                by_worker,
                text: reason.text().to_owned(),
            }
        })
        .collect();
    let switch = switch_drops(target);
    let ports = traffic.map(softnic::Traffic::drops).unwrap_or_default();
    Drops { uptime_ms: uptime_ms(source), total: drops.iter().map(|d| d.total).sum(), drops, switch, ports }
}

/// What the switch drops of its own; nothing when there is none, or when it could not be asked.
fn switch_drops(target: &TargetState) -> Vec<SwitchDrop> {
    let Some(Ok(status)) = target else { return Vec::new() };
    let all = carom_p4::SwitchDrop::ALL.iter();
    all.filter_map(|&reason| {
        Some(SwitchDrop {
            reason: reason.name().to_owned(),
            number: reason as u8,
            total: *status.drops.get(reason.name())?,
            text: reason.text().to_owned(),
        })
    })
    .collect()
}

/// `GET /v1/workers`.
pub fn workers(source: &impl Source) -> Workers {
    let workers = source
        .counters()
        .iter()
        .enumerate()
        .map(|(worker, counters)| Worker { worker, counters: worker_counters(counters) })
        .collect();
    Workers { uptime_ms: uptime_ms(source), workers }
}

/// What one worker counted.
pub fn worker_counters(counters: &Counters) -> WorkerCounters {
    let mut sum = WorkerCounters::default();
    add_worker(&mut sum, counters);
    sum
}

fn add_worker(sum: &mut WorkerCounters, c: &Counters) {
    // A destructured pattern makes a new field an error here, so that none is forgotten.
    let WorkerCounters {
        rx_packets,
        rx_bytes,
        tx_packets,
        tx_bytes,
        handed_over,
        taken_over,
        dropped,
        busy_polls,
        idle_polls,
        sessions_v4,
        sessions_v6,
        half_open,
        half_open_evicted,
        handshakes,
        sessions_created,
        sessions_ended,
        sessions_reopened,
        rst_ignored,
        rst_sent,
        replies_limited,
        toa_added,
        toa_stripped,
        toa_no_room,
        toa_over_mtu,
        icmp_translated,
        icmp_sent,
        echo_answered,
        neighbor_answered,
        neighbor_heard,
        punted,
        offload_sessions,
        offload_asked,
        offload_installed,
        offload_refused,
        offload_adopted,
        offload_removed,
        offload_ring_full,
        offload_ignored,
        offload_packets_in,
        offload_packets_out,
        offload_bytes_in,
        offload_bytes_out,
    } = sum;
    *rx_packets += c.rx_packets.get();
    *rx_bytes += c.rx_bytes.get();
    *tx_packets += c.tx_packets.get();
    *tx_bytes += c.tx_bytes.get();
    *handed_over += c.handed_over.get();
    *taken_over += c.taken_over.get();
    *dropped += DropReason::ALL.iter().map(|&r| c.dropped(r)).sum::<u64>();
    *busy_polls += c.busy_polls.get();
    *idle_polls += c.idle_polls.get();
    *sessions_v4 += c.sessions_v4.get();
    *sessions_v6 += c.sessions_v6.get();
    *half_open += c.half_open.get();
    *half_open_evicted += c.half_open_evicted.get();
    *handshakes += c.handshakes.get();
    *sessions_created += c.sessions_created.get();
    *sessions_ended += c.sessions_ended.get();
    *sessions_reopened += c.sessions_reopened.get();
    *rst_ignored += c.rst_ignored.get();
    *rst_sent += c.rst_sent.get();
    *replies_limited += c.replies_limited.get();
    *toa_added += c.toa_added.get();
    *toa_stripped += c.toa_stripped.get();
    *toa_no_room += c.toa_no_room.get();
    *toa_over_mtu += c.toa_over_mtu.get();
    *icmp_translated += c.icmp_translated.get();
    *icmp_sent += c.icmp_sent.get();
    *echo_answered += c.echo_answered.get();
    *neighbor_answered += c.neighbor_answered.get();
    *neighbor_heard += c.neighbor_heard.get();
    *punted += Punt::ALL.iter().map(|&why| c.punts(why as u8)).sum::<u64>();
    let o = &c.offload;
    *offload_sessions += o.sessions.get();
    *offload_asked += o.asked.get();
    *offload_installed += o.installed.get();
    *offload_refused += o.refused.get();
    *offload_adopted += o.adopted.get();
    *offload_removed += o.removed.get();
    *offload_ring_full += o.full.get();
    *offload_ignored += o.ignored.get();
    *offload_packets_in += o.packets_in.get();
    *offload_packets_out += o.packets_out.get();
    *offload_bytes_in += o.bytes_in.get();
    *offload_bytes_out += o.bytes_out.get();
}

/// `GET /v1/neighbors`.
pub fn neighbors(source: &impl Source) -> Neighbors {
    let neighbors = source
        .neighbors()
        .into_iter()
        .map(|n| Neighbor {
            address: n.address,
            interface: n.interface,
            mac: n.mac.map(|mac| mac.to_string()),
            state: n.state.to_owned(),
        })
        .collect();
    Neighbors { uptime_ms: uptime_ms(source), neighbors }
}

/// `GET /v1/interfaces`. Behind a switch the last one is the link.
pub fn interfaces(source: &impl Source) -> Interfaces {
    let plan = source.plan();
    let link = source.link().map(|link| Interface {
        name: LINK.to_owned(),
        mac: link.mac.to_string(),
        mtu_bytes: link.mtu,
        addresses: Vec::new(),
        stats: link.stats,
    });
    let interfaces = plan
        .interfaces
        .iter()
        .zip(source.interface_stats())
        .map(|(interface, stats)| Interface {
            name: interface.name.clone(),
            mac: interface.mac.to_string(),
            mtu_bytes: interface.mtu,
            addresses: interface.addresses.iter().map(|(a, len)| format!("{a}/{len}")).collect(),
            stats,
        })
        .chain(link)
        .collect();
    Interfaces { uptime_ms: uptime_ms(source), interfaces }
}
