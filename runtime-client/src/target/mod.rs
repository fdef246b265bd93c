//! What every P4Runtime target needs, whatever its tables are made of.

mod arbitration;
mod streams;

pub use arbitration::{Arbitration, Notices, StreamId};
pub use streams::{Controlled, Messages, PacketRefusal, Streams, hear};

pub use crate::write::answer::pack_errors;

use crate::proto::p4::v1::ForwardingPipelineConfig;
use crate::proto::p4::v1::get_forwarding_pipeline_config_request::ResponseType;

/// The parts of a pipeline's config that a `GetForwardingPipelineConfigRequest` asks for.
pub fn pipeline_asked_for(all: &ForwardingPipelineConfig, wanted: ResponseType) -> ForwardingPipelineConfig {
    let has_info = matches!(wanted, ResponseType::All | ResponseType::P4infoAndCookie);
    let has_device_config = matches!(wanted, ResponseType::All | ResponseType::DeviceConfigAndCookie);
    ForwardingPipelineConfig {
        p4info: all.p4info.clone().filter(|_| has_info),
        p4_device_config: if has_device_config { all.p4_device_config.clone() } else { Default::default() },
        cookie: all.cookie,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_gets_the_parts_it_asks_for() {
        let cookie = Some(Default::default());
        let all = ForwardingPipelineConfig { p4info: Some(Default::default()), p4_device_config: "x".into(), cookie };
        let parts = [
            (ResponseType::All, [true, true]),
            (ResponseType::CookieOnly, [false, false]),
            (ResponseType::P4infoAndCookie, [true, false]),
            (ResponseType::DeviceConfigAndCookie, [false, true]),
        ];
        for (wanted, has) in parts {
            let got = pipeline_asked_for(&all, wanted);
            assert_eq!([got.p4info.is_some(), !got.p4_device_config.is_empty()], has, "{wanted:?}");
            assert_eq!(got.cookie, all.cookie);
        }
    }
}
