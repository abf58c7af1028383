//! Which of a guest's frames go to passt. It would connect what is sent to 127.0.0.1 or 0.0.0.0 to the
//! loopback interface of the host, where services listen that trust whoever can reach them; `--no-map-gw` is
//! about another address. So passt gets ARP, and IPv4 to what can be another machine; anything else is
//! dropped unheard.

/// Destination, source and type, IEEE 802.3.
pub const ETHERNET_HEADER_BYTES: usize = 14;
const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TYPE_ARP: [u8; 2] = [0x08, 0x06];
/// RFC 791, section 3.1; without options.
const IPV4_HEADER_BYTES: usize = 20;

/// Whether a frame may go on. Where it may, its header and its length are what they say: passt, which reads
/// them again, reads the same.
pub fn passes(frame: &[u8]) -> bool {
    let Some((header, payload)) = frame.split_at_checked(ETHERNET_HEADER_BYTES) else {
        return false;
    };
    // A tag of a VLAN would stand in the place of the type.
    match [header[12], header[13]] {
        TYPE_ARP => true,
        TYPE_IPV4 => ipv4_passes(payload),
        _ => false,
    }
}

fn ipv4_passes(packet: &[u8]) -> bool {
    let Some(header) = packet.first_chunk::<IPV4_HEADER_BYTES>() else {
        return false;
    };
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // Short packets are padded to Ethernet's 60 bytes, so a frame may be longer than its packet.
    header[0] >> 4 == 4
        && (IPV4_HEADER_BYTES..=total_bytes).contains(&header_bytes)
        && total_bytes <= packet.len()
        && address_passes([header[16], header[17], header[18], header[19]])
}

/// The special blocks of RFC 6890 that lead to the host itself, or to nobody by way of a router.
const fn address_passes(destination: [u8; 4]) -> bool {
    !matches!(
        destination,
        // "This host", which Linux takes for the loopback interface; and loopback.
        [0 | 127, ..]
        // Link-local: never forwarded by a router (RFC 3927, section 2.7). Clouds have the machine's own
        // credentials there.
        | [169, 254, ..]
        // Multicast, and what is reserved, with broadcast at its end.
        | [224..=255, ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESTINATION: usize = ETHERNET_HEADER_BYTES + 16;

    fn frame_of_type(kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(kind);
        frame.extend(payload);
        frame
    }

    /// A whole IPv4 packet of 28 bytes.
    fn frame_to(destination: [u8; 4]) -> Vec<u8> {
        let mut packet = [0; 28];
        packet[0] = 0x45;
        packet[3] = 28;
        packet[16..20].copy_from_slice(&destination);
        frame_of_type(TYPE_IPV4, &packet)
    }

    #[test]
    fn each_block_ends_where_it_should() {
        for (address, expected) in [
            ([0, 0, 0, 0], false),
            ([0, 255, 255, 255], false),
            ([1, 0, 0, 0], true),
            ([10, 0, 2, 2], true),
            ([126, 255, 255, 255], true),
            ([127, 0, 0, 0], false),
            ([127, 0, 0, 1], false),
            ([127, 255, 255, 255], false),
            ([128, 0, 0, 0], true),
            ([169, 253, 255, 255], true),
            ([169, 254, 0, 0], false),
            ([169, 254, 169, 254], false),
            ([169, 254, 255, 255], false),
            ([169, 255, 0, 0], true),
            ([192, 0, 2, 2], true),
            ([223, 255, 255, 255], true),
            ([224, 0, 0, 0], false),
            ([239, 255, 255, 255], false),
            ([240, 0, 0, 0], false),
            ([255, 255, 255, 254], false),
            ([255, 255, 255, 255], false),
        ] {
            assert_eq!(passes(&frame_to(address)), expected, "{address:?}");
        }
    }

    #[test]
    fn only_arp_and_ipv4_pass_and_no_vlan() {
        let good = frame_to([192, 0, 2, 2]);
        let payload = &good[ETHERNET_HEADER_BYTES..];
        for (kind, expected) in [
            ([0x08, 0x00], true),
            ([0x08, 0x06], true),
            ([0x08, 0x01], false),
            ([0x08, 0x05], false),
            ([0x08, 0x07], false),
            ([0x09, 0x00], false),
            ([0x86, 0xdd], false),
            ([0x81, 0x00], false),
            ([0x88, 0xa8], false),
            // A length in place of a type, as in IEEE 802.3 with LLC.
            ([0x00, 0x1c], false),
        ] {
            assert_eq!(passes(&frame_of_type(kind, payload)), expected, "{kind:02x?}");
        }
        let mut tag = vec![0x00, 0x01, 0x08, 0x00];
        tag.extend(payload);
        assert!(!passes(&frame_of_type([0x81, 0x00], &tag)));
    }

    #[test]
    fn a_frame_is_as_long_as_its_headers() {
        assert!(!passes(&[]));
        assert!(!passes(&frame_of_type(TYPE_ARP, &[])[..13]));
        assert!(passes(&frame_of_type(TYPE_ARP, &[])));
        let mut frame = frame_to([192, 0, 2, 2]);
        frame[17] = 20;
        for length in ETHERNET_HEADER_BYTES..frame.len() {
            assert_eq!(passes(&frame[..length]), length >= ETHERNET_HEADER_BYTES + 20, "{length}");
        }
    }

    #[test]
    fn version_and_header_length_are_as_in_a_packet_without_fault() {
        for (first, expected) in [
            (0x05, false),
            (0x35, false),
            (0x40, false),
            (0x44, false),
            (0x45, true),
            (0x46, true),
            (0x47, true),
            // Longer than the packet.
            (0x48, false),
            (0x4f, false),
            (0x55, false),
            (0x65, false),
        ] {
            let mut frame = frame_to([192, 0, 2, 2]);
            frame[ETHERNET_HEADER_BYTES] = first;
            assert_eq!(passes(&frame), expected, "{first:#x}");
        }
    }

    #[test]
    fn the_total_length_is_within_the_frame() {
        for (total, expected) in [(0, false), (19, false), (20, true), (28, true), (29, false)] {
            let mut frame = frame_to([192, 0, 2, 2]);
            frame[ETHERNET_HEADER_BYTES + 3] = total;
            assert_eq!(passes(&frame), expected, "{total}");
        }
        let mut padded = frame_to([192, 0, 2, 2]);
        padded.resize(60, 0);
        assert!(passes(&padded));
        let mut huge = frame_to([192, 0, 2, 2]);
        huge[ETHERNET_HEADER_BYTES + 2..ETHERNET_HEADER_BYTES + 4].fill(0xff);
        huge.resize(ETHERNET_HEADER_BYTES + 65_534, 0);
        assert!(!passes(&huge));
        huge.push(0);
        assert!(passes(&huge));
    }

    #[test]
    fn options_do_not_hide_the_destination() {
        // A loose source route (RFC 791) to 127.0.0.1 by way of a good address, and the other way round.
        let mut frame = frame_to([192, 0, 2, 2]);
        frame[ETHERNET_HEADER_BYTES] = 0x47;
        frame[DESTINATION + 4..DESTINATION + 12].copy_from_slice(&[131, 7, 4, 127, 0, 0, 1, 0]);
        assert!(passes(&frame), "passt reads no options");
        frame[DESTINATION..DESTINATION + 4].copy_from_slice(&[127, 0, 0, 1]);
        frame[DESTINATION + 4..DESTINATION + 12].copy_from_slice(&[131, 7, 4, 192, 0, 2, 2, 0]);
        assert!(!passes(&frame));
    }
}
