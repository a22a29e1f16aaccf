//! One specification for many nodes: addresses count up, what can belong to only one
//! node is refused.

use std::net::IpAddr;

use api::machine::MachineSpec;
use ipnet::IpNet;

/// What one request may make of one specification for many nodes, bytes as JSON: 65,536 nodes
/// with 2 KiB each.
pub(crate) const MAX_SPREAD_BYTES: usize = 128 << 20;

/// Why one specification does not fit several nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpreadError {
    /// A MAC address belongs to one node.
    #[error(
        "interface {interface} has a mac, which only one node can have; add the nodes one by one"
    )]
    Mac {
        /// Key of the interface.
        interface: String,
    },
    /// Counting up leaves the network.
    #[error("{count} addresses from {first} on do not fit into {}", first.trunc())]
    Network {
        /// The address given.
        first: IpNet,
        /// How many are needed.
        count: usize,
    },
    /// It is large, and they are many.
    #[error(
        "{bytes} bytes for each of {count} nodes are more than the {MAX_SPREAD_BYTES} bytes that are \
         taken at once; put what they share into a profile"
    )]
    TooLarge {
        /// Of one specification.
        bytes: usize,
        /// Nodes.
        count: usize,
    },
}

/// The size of a specification, bytes as JSON.
#[must_use]
pub(crate) fn bytes_of(spec: &impl serde::Serialize) -> usize {
    let mut counted = Counted(0);
    match serde_json::to_writer(&mut counted, spec) {
        Ok(()) => counted.0,
        Err(_) => usize::MAX,
    }
}

/// Whether a value may be taken for so many nodes.
///
/// # Errors
/// [`SpreadError::TooLarge`].
pub(crate) fn check_size(value: &impl serde::Serialize, count: usize) -> Result<(), SpreadError> {
    let bytes = bytes_of(value);
    if bytes.saturating_mul(count) > MAX_SPREAD_BYTES {
        return Err(SpreadError::TooLarge { bytes, count });
    }
    Ok(())
}

/// Counts what is written to it.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Makes `count` specifications of one. With more than one, interface addresses count
/// up, the BMC's too.
///
/// # Errors
/// A `mac` with more than one node, addresses that leave their network, or more than
/// [`MAX_SPREAD_BYTES`] together.
pub(crate) fn spread(spec: &MachineSpec, count: usize) -> Result<Vec<MachineSpec>, SpreadError> {
    check_size(spec, count)?;
    if count <= 1 {
        return Ok(vec![spec.clone(); count]);
    }
    if let Some((interface, _)) =
        spec.interfaces.iter().find(|(_, interface)| interface.mac.is_some())
    {
        return Err(SpreadError::Mac { interface: interface.clone() });
    }
    (0..count)
        .map(|index| {
            let mut one = spec.clone();
            for interface in one.interfaces.values_mut() {
                if let Some(first) = interface.address {
                    let error = SpreadError::Network { first, count };
                    interface.address = Some(plus(first, index).ok_or(error)?);
                }
            }
            if let Some(bmc) = &mut one.bmc {
                bmc.address = bmc.address.and_then(|first| add(first, index));
            }
            Ok(one)
        })
        .collect()
}

/// The address `index` further on, if it is still in the network.
fn plus(first: IpNet, index: usize) -> Option<IpNet> {
    let address = add(first.addr(), index)?;
    let last_usable = match first {
        IpNet::V4(net) if net.prefix_len() < 31 => address != IpAddr::V4(net.broadcast()),
        _ => true,
    };
    (first.contains(&address) && last_usable)
        .then(|| IpNet::new(address, first.prefix_len()).ok())
        .flatten()
}

fn add(first: IpAddr, index: usize) -> Option<IpAddr> {
    match first {
        IpAddr::V4(address) => {
            let number = u32::from(address).checked_add(u32::try_from(index).ok()?)?;
            Some(IpAddr::V4(number.into()))
        }
        IpAddr::V6(address) => {
            Some(IpAddr::V6(u128::from(address).checked_add(index as u128)?.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> MachineSpec {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn addresses_count_up() {
        let specs = spread(
            &spec("{interfaces: {e: {address: 10.0.0.254/16}}, bmc: {address: 10.9.0.255}}"),
            3,
        )
        .unwrap();
        let addresses: Vec<String> = specs
            .iter()
            .map(|spec| {
                format!(
                    "{} {}",
                    spec.interfaces["e"].address.unwrap(),
                    spec.bmc.as_ref().unwrap().address.unwrap()
                )
            })
            .collect();
        assert_eq!(
            addresses,
            ["10.0.0.254/16 10.9.0.255", "10.0.0.255/16 10.9.1.0", "10.0.1.0/16 10.9.1.1"]
        );
    }

    #[test]
    fn what_cannot_be_shared_is_refused() {
        let error = |yaml: &str, count| spread(&spec(yaml), count).unwrap_err().to_string();
        assert_eq!(
            error("{interfaces: {e: {address: 10.0.0.250/24}}}", 6),
            "6 addresses from 10.0.0.250/24 on do not fit into 10.0.0.0/24"
        );
        assert_eq!(
            error("{interfaces: {e: {mac: '52:54:00:00:00:01'}}}", 2),
            "interface e has a mac, which only one node can have; add the nodes one by one"
        );
        assert!(spread(&spec("{interfaces: {e: {mac: '52:54:00:00:00:01'}}}"), 1).is_ok());
        let long = MachineSpec { comment: Some("x".repeat(1 << 20)), ..MachineSpec::default() };
        assert_eq!(
            spread(&long, 1_000).unwrap_err().to_string(),
            "1048590 bytes for each of 1000 nodes are more than the 134217728 bytes that are taken at once; \
             put what they share into a profile"
        );
    }
}
