//! From the text of a query to a [`SessionFilter`] and a limit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fullnat::id::{Proto, ServerId, ServiceId, VPort};
use fullnat::offload;
use fullnat::plan::Plan;
use fullnat::tcp::State;

use super::error::ApiError;
use super::model::SessionsQuery;
use crate::control::SessionFilter;

/// Sessions on a page when the query gives no limit.
pub const DEFAULT_LIMIT: usize = 100;

/// Most sessions on a page. Bounds what one query costs the daemon in memory and a worker in time.
pub const MAX_LIMIT: usize = 10_000;

/// The limit a query asks for.
pub fn limit(query: &SessionsQuery) -> Result<usize, ApiError> {
    let Some(text) = &query.limit else { return Ok(DEFAULT_LIMIT) };
    match text.parse() {
        Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        _ => Err(ApiError::bad(
            format!("limit `{text}` is not a number from 1 to {MAX_LIMIT}"),
            "ask for smaller pages and follow `next`",
        )),
    }
}

/// The filter a query describes, its names looked up in the plan.
pub fn filter(query: &SessionsQuery, plan: &Plan) -> Result<SessionFilter, ApiError> {
    let client = query.client.as_deref().map(client_prefix).transpose()?;
    let service = query.service.as_deref().map(|text| service_id(plan, text)).transpose()?;
    let servers = query.server.as_deref().map(|text| server_ids(plan, text)).transpose()?;
    let state = query.state.as_deref().map(state_name).transpose()?;
    let offload = query.offload.as_deref().map(offload_state).transpose()?;
    Ok(SessionFilter { client, service, servers, state, offload })
}

/// The name of a state a session can have.
fn state_name(text: &str) -> Result<String, ApiError> {
    if State::ALL.iter().any(|state| state.name() == text) {
        return Ok(text.to_owned());
    }
    let names: Vec<_> = State::ALL.iter().map(|state| state.name()).collect();
    Err(ApiError::bad(format!("no state `{text}`"), format!("the states are {}", names.join(", "))))
}

/// An offload state by its name.
fn offload_state(text: &str) -> Result<offload::State, ApiError> {
    let known = offload::State::ALL.into_iter().find(|state| state.name() == text);
    known.ok_or_else(|| {
        let names: Vec<_> = offload::State::ALL.iter().map(|state| state.name()).collect();
        ApiError::bad(format!("no offload state `{text}`"), format!("the offload states are {}", names.join(", ")))
    })
}

/// `address` or `address/length`; bits beyond the length are cleared.
fn client_prefix(text: &str) -> Result<(IpAddr, u8), ApiError> {
    let wrong = || {
        ApiError::bad(
            format!("client `{text}` is neither an address nor a prefix"),
            "write it as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
        )
    };
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    let len = match len {
        None => max,
        Some(len) => len.parse().ok().filter(|&len| len <= max).ok_or_else(wrong)?,
    };
    Ok((masked(address, len), len))
}

/// The first address of the prefix. `len` is at most the address's width.
fn masked(address: IpAddr, len: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            Ipv4Addr::from_bits(a.to_bits() & mask).into()
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            Ipv6Addr::from_bits(a.to_bits() & mask).into()
        }
    }
}

/// A service by its name, `VIP:port` or `VIP:port/proto`.
fn service_id(plan: &Plan, text: &str) -> Result<ServiceId, ApiError> {
    if let Some(service) = plan.services().find(|s| s.name == text) {
        return Ok(service.id);
    }
    let unknown = || {
        ApiError::bad(
            format!("no service `{text}` in the config in force"),
            "see `carom services` for names and addresses; an IPv6 VIP is written [2001:db8::1]:80",
        )
    };
    let (address, proto) = match text.rsplit_once('/') {
        Some((address, "tcp")) => (address, Some(Proto::Tcp)),
        Some((address, "udp")) => (address, Some(Proto::Udp)),
        Some(_) => return Err(unknown()),
        None => (text, None),
    };
    let address: SocketAddr = address.parse().map_err(|_| unknown())?;
    let at = |proto| plan.service_at(address.ip(), VPort(address.port()), proto);
    match proto {
        Some(proto) => at(proto).map(|s| s.id).ok_or_else(unknown),
        None => match (at(Proto::Tcp), at(Proto::Udp)) {
            (Some(_), Some(_)) => Err(ApiError::bad(
                format!("`{text}` is both a TCP and a UDP service"),
                format!("write {text}/tcp or {text}/udp"),
            )),
            (tcp, udp) => tcp.or(udp).map(|s| s.id).ok_or_else(unknown),
        },
    }
}

/// The slots of a real server, `RIP` or `RIP:port`: one for each service it is in.
fn server_ids(plan: &Plan, text: &str) -> Result<Vec<ServerId>, ApiError> {
    let (ip, port) = match (text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
        (Ok(ip), _) => (ip, None),
        (_, Ok(address)) => (address.ip(), Some(address.port())),
        _ => {
            return Err(ApiError::bad(
                format!("server `{text}` is neither an address nor address:port"),
                "write it as 10.0.0.7, 10.0.0.7:80, 2001:db8::7 or [2001:db8::7]:80",
            ));
        }
    };
    let ids: Vec<ServerId> =
        plan.servers().filter(|s| s.rip == ip && port.is_none_or(|port| s.rport.0 == port)).map(|s| s.id).collect();
    if ids.is_empty() {
        return Err(ApiError::bad(
            format!("no real server `{text}` in the config in force"),
            "see `carom servers` for the addresses",
        ));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_prefixes_are_read_and_masked() {
        let cases = [
            ("192.0.2.7", "192.0.2.7", 32),
            ("192.0.2.7/24", "192.0.2.0", 24),
            ("192.0.2.7/0", "0.0.0.0", 0),
            ("2001:db8:1:2::3/32", "2001:db8::", 32),
            ("2001:db8::3", "2001:db8::3", 128),
            ("::/0", "::", 0),
        ];
        for (text, address, len) in cases {
            assert_eq!(client_prefix(text).unwrap(), (address.parse().unwrap(), len), "{text}");
        }
        for text in ["", "/", "192.0.2.7/33", "192.0.2.7/-1", "2001:db8::/129", "192.0.2.0/", "host", "192.0.2.7:80"] {
            let error = client_prefix(text).unwrap_err();
            assert!(error.problem.error.contains(&format!("`{text}`")), "{error:?}");
        }
    }

    #[test]
    fn limits_have_bounds() {
        let with = |limit: &str| SessionsQuery { limit: Some(limit.to_owned()), ..Default::default() };
        assert_eq!(limit(&SessionsQuery::default()).unwrap(), DEFAULT_LIMIT);
        assert_eq!(limit(&with("1")).unwrap(), 1);
        assert_eq!(limit(&with("10000")).unwrap(), 10_000);
        for text in ["0", "10001", "-1", "ten", "", "99999999999999999999999"] {
            assert!(limit(&with(text)).is_err(), "{text}");
        }
    }
}
