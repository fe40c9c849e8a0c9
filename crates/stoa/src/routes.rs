//! Which networks this machine already has routes to, read off the kernel's table.

/// Second bytes of `10.x.0.0/16` in the order in which they are tried: Kubernetes' customary one first.
const FIRST: u8 = 244;

/// The first `10.x.0.0/16` that overlaps no route of `table` (in the form of `/proc/net/route`); default routes, which lead
/// everywhere, do not count.
pub fn free_network(table: &str) -> Option<String> {
    let routed: Vec<(u32, u32)> =
        table.lines().skip(1).filter_map(route).filter(|(_, mask)| *mask != 0).collect();
    let candidates = (FIRST..=u8::MAX).chain((1..FIRST).rev());
    let free = |x: &u8| {
        let network = u32::from_be_bytes([10, *x, 0, 0]);
        routed.iter().all(|(to, mask)| {
            let both = mask & 0xffff_0000;
            network & both != to & both
        })
    };
    candidates.into_iter().find(free).map(|x| format!("10.{x}.0.0/16"))
}

/// Destination and mask of a line. The table has them in hex, as the machine's integers of network-order bytes.
fn route(line: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let hex = |i: usize| u32::from_str_radix(fields.get(i)?, 16).ok().map(u32::from_be);
    Some((hex(1)?, hex(7)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n";

    #[test]
    fn a_routed_network_is_left_alone() {
        assert_eq!(free_network(HEADER).as_deref(), Some("10.244.0.0/16"));
        // eth0 10.244.0.0/24, and a default route.
        let one = format!(
            "{HEADER}st0\t0000F40A\t0\t1\t0\t0\t0\t00FFFFFF\neth0\t00000000\t010200C0\t3\t0\t0\t0\t00000000\n"
        );
        assert_eq!(free_network(&one).as_deref(), Some("10.245.0.0/16"));
        // 10.0.0.0/8 leads somewhere.
        let all = format!("{HEADER}tun0\t0000000A\t0\t1\t0\t0\t0\t000000FF\n");
        assert_eq!(free_network(&all), None);
    }
}
