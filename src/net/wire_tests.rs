use super::*;
use crate::net::tls::tests::{Authority, scratch};
use smol::{
    future::zip,
    io::{AsyncReadExt, AsyncWriteExt},
};

const LONG: Duration = Duration::from_secs(30);

fn pair() -> (Wire, Async<UnixStream>) {
    let (a, b) = Async::<UnixStream>::pair().unwrap();
    (Wire::unix(a, Drain::new()), b)
}

fn line(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    Some((end + 1, bytes[..end].to_vec()))
}

#[test]
fn any_chunking_gives_the_same_lines() {
    for size in [1, 2, 3, 7, 100] {
        let (mut wire, mut peer) = pair();
        let sent = b"one\ntwo\n\nthree\n".to_vec();
        let writer = async {
            for chunk in sent.chunks(size) {
                peer.write_all(chunk).await.unwrap();
                smol::future::yield_now().await;
            }
        };
        let reader = async {
            for want in ["one", "two", "", "three"] {
                assert_eq!(wire.next(LONG, line).await.unwrap(), want.as_bytes(), "chunks of {size}");
            }
        };
        smol::block_on(zip(writer, reader));
    }
}

#[test]
fn a_half_line_is_not_the_end_of_data() {
    smol::block_on(async {
        let (mut wire, mut peer) = pair();
        peer.write_all(b"half").await.unwrap();
        drop(peer);
        assert!(matches!(wire.next(LONG, line).await, Err(Ended::Closed)));
        assert_eq!(wire.buffered(), 4);
        wire.discard_buffered();
        assert_eq!(wire.buffered(), 0);
    });
}

#[test]
fn a_line_without_end_is_not_kept_for_ever() {
    let (mut wire, mut peer) = pair();
    let writer = async {
        let block = [b'x'; 4096];
        while peer.write_all(&block).await.is_ok() {}
    };
    let reader = async {
        assert!(matches!(wire.next(LONG, line).await, Err(Ended::Io(_))));
        assert!(wire.buffered() <= INPUT_MAX + SCRATCH);
        drop(wire);
    };
    smol::block_on(zip(writer, reader));
}

#[test]
fn the_deadline_ends_a_wait() {
    smol::block_on(async {
        let (mut wire, _peer) = pair();
        assert!(matches!(wire.next(Duration::ZERO, line).await, Err(Ended::Timeout)));
    });
}

#[test]
fn a_slow_reader_is_left_after_the_deadline() {
    smol::block_on(async {
        let (mut wire, _peer) = pair();
        let _ = wire.next(Duration::ZERO, line).await;
        let big = vec![0; 16 * 1024 * 1024];
        assert!(matches!(wire.write(&big).await, Err(Ended::Timeout)));
    });
}

#[test]
fn what_is_written_comes_in_order_whatever_its_length() {
    let (mut wire, mut peer) = pair();
    let piece = |n: usize| vec![n as u8; [1, OUTPUT_MAX - 1, 0, OUTPUT_MAX, 17, 300_000, OUTPUT_MAX + 1][n % 7]];
    let writer = async {
        for n in 0..70 {
            wire.write(&piece(n)).await.unwrap();
        }
        wire.flush().await.unwrap();
        drop(wire);
    };
    let reader = async {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).await.unwrap();
        assert!(all == (0..70).flat_map(piece).collect::<Vec<_>>());
    };
    smol::block_on(zip(writer, reader));
}

#[test]
fn draining_waits_for_the_rest_of_what_began() {
    smol::block_on(async {
        let drain = Drain::new();
        let (a, mut peer) = Async::<UnixStream>::pair().unwrap();
        let mut wire = Wire::unix(a, drain.clone());
        // Whole commands that are there already are still answered.
        peer.write_all(b"one\ntwo\nthr").await.unwrap();
        assert_eq!(wire.next(LONG, line).await.unwrap(), b"one");
        drain.start();
        assert_eq!(wire.next(LONG, line).await.unwrap(), b"two");
        let (rest, ()) = zip(wire.next(LONG, line), async { peer.write_all(b"ee\n").await.unwrap() }).await;
        assert_eq!(rest.unwrap(), b"three");
        assert!(matches!(wire.next(LONG, line).await, Err(Ended::Draining)));
        peer.write_all(b"data\n").await.unwrap();
        assert_eq!(wire.next_undisturbed(LONG, line).await.unwrap(), b"data");
    });
}

#[test]
fn half_a_command_does_not_hold_the_drain() {
    smol::block_on(async {
        let drain = Drain::new();
        let (a, mut peer) = Async::<UnixStream>::pair().unwrap();
        let mut wire = Wire::unix(a, drain.clone());
        peer.write_all(b"EHL").await.unwrap();
        let (ended, ()) = zip(wire.next(LONG, line), async { drain.start() }).await;
        assert!(matches!(ended, Err(Ended::Draining)));
    });
}

#[test]
fn draining_wakes_an_idle_session() {
    smol::block_on(async {
        let drain = Drain::new();
        let (a, _peer) = Async::<UnixStream>::pair().unwrap();
        let mut wire = Wire::unix(a, drain.clone());
        let (ended, ()) = zip(wire.next(LONG, line), async { drain.start() }).await;
        assert!(matches!(ended, Err(Ended::Draining)));
    });
}

#[test]
fn an_abandoned_next_loses_nothing() {
    smol::block_on(async {
        let (mut wire, mut peer) = pair();
        peer.write_all(b"hel").await.unwrap();
        // As IDLE does: the other branch wins while half a line is here.
        assert!(smol::future::poll_once(wire.next(LONG, line)).await.is_none());
        assert_eq!(wire.buffered(), 3);
        peer.write_all(b"lo\n").await.unwrap();
        assert_eq!(wire.next(LONG, line).await.unwrap(), b"hello");
    });
}

#[test]
fn replies_leave_before_the_next_wait_and_in_one_piece() {
    smol::block_on(async {
        let (mut wire, mut peer) = pair();
        wire.write(b"1\n").await.unwrap();
        wire.write(b"2\n").await.unwrap();
        assert!(smol::future::poll_once(wire.next(LONG, line)).await.is_none());
        let mut got = [0; 16];
        let n = peer.read(&mut got).await.unwrap();
        assert_eq!(&got[..n], b"1\n2\n");
    });
}

#[test]
fn large_output_arrives_whole() {
    let (mut wire, mut peer) = pair();
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    let writer = async {
        wire.write(&sent).await.unwrap();
        wire.flush().await.unwrap();
        wire.close().await;
    };
    let reader = async {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        assert!(got == sent);
        drop(peer);
    };
    smol::block_on(zip(writer, reader));
}

#[test]
fn an_idle_connection_is_small() {
    smol::block_on(async {
        let (mut wire, mut peer) = pair();
        let long = [vec![b'x'; 30_000], b"\n".to_vec()].concat();
        let (got, ()) = zip(wire.next(LONG, line), async { peer.write_all(&long).await.unwrap() }).await;
        assert_eq!(got.unwrap().len(), 30_000);
        wire.write(&long).await.unwrap();
        wire.flush().await.unwrap();
        assert!(wire.input.capacity() <= KEEP && wire.output.capacity() <= KEEP);
        assert!(size_of::<Wire>() <= 200, "{}", size_of::<Wire>());
        let future = wire.next(LONG, line);
        assert!(size_of_val(&future) <= 700, "{}", size_of_val(&future));
    });
}

#[test]
fn connection_ids_are_short_and_differ() {
    let ids: std::collections::HashSet<_> = (0..100).map(|_| next_conn()).collect();
    assert_eq!(ids.len(), 100);
    assert!(ids.iter().all(|id| id.len() <= 4 && id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())));
}

#[test]
fn the_peer_of_a_mapped_address_is_ipv4() {
    smol::block_on(async {
        let Ok(l) = std::net::TcpListener::bind("[::1]:0") else { return };
        drop(l);
        let l = std::net::TcpListener::bind("[::]:0").unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], l.local_addr().unwrap().port()));
        let _client = std::net::TcpStream::connect(to).unwrap();
        let wire = Wire::plain(Async::new(l.accept().unwrap().0).unwrap(), Drain::new()).unwrap();
        assert_eq!(wire.peer(), Some([127, 0, 0, 1].into()));
    });
}

#[test]
fn plain_text_is_private_for_listed_networks_only() {
    smol::block_on(async {
        let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = std::net::TcpStream::connect(l.local_addr().unwrap()).unwrap();
        let wire = Wire::plain(Async::new(l.accept().unwrap().0).unwrap(), Drain::new()).unwrap();
        assert!(!wire.is_private(&[]));
        assert!(!wire.is_private(&[([192, 0, 2, 0].into(), 24)]));
        assert!(wire.is_private(&[([192, 0, 2, 0].into(), 24), ([127, 0, 0, 0].into(), 8)]));
        let (unix, _other) = Async::<UnixStream>::pair().unwrap();
        assert!(!Wire::unix(unix, Drain::new()).is_private(&[([0, 0, 0, 0].into(), 0)]));
        assert!(encrypted("private").0.is_private(&[]));
    });
}

/// Both ends under TLS.
fn encrypted(name: &str) -> (Wire, Wire) {
    let dir = scratch(name);
    let acceptor = Acceptor::load(&Authority::new().issue(&dir, "mail.test")).unwrap();
    let (a, b) = Async::<UnixStream>::pair().unwrap();
    let (mut server, mut client) = (Wire::unix(a, Drain::new()), Wire::unix(b, Drain::new()));
    let connector = Connector::opportunistic();
    let (s, c) = smol::block_on(zip(server.start_tls(&acceptor, LONG), client.start_tls_client(&connector, "mail.test", LONG)));
    s.unwrap();
    c.unwrap();
    (server, client)
}

#[test]
fn tls_carries_both_ways_and_says_goodbye() {
    let (mut server, mut client) = encrypted("both-ways");
    assert!(server.is_tls() && client.is_tls());
    assert!(server.tls_summary().unwrap().starts_with("TLSv1.3 TLS13_"), "{:?}", server.tls_summary());
    let big = vec![b'x'; 500_000];
    let talk = async {
        client.write(b"ping\n").await.unwrap();
        client.flush().await.unwrap();
        let got = client.next(LONG, |b| (b.len() >= 500_000).then_some((b.len(), b.len()))).await.unwrap();
        assert_eq!(got, 500_000);
        client.close().await;
    };
    let answer = async {
        assert_eq!(server.next(LONG, line).await.unwrap(), b"ping");
        server.write(&big).await.unwrap();
        server.flush().await.unwrap();
        assert!(matches!(server.next(LONG, line).await, Err(Ended::Closed)));
        // So that the client's last read ends.
        drop(server);
    };
    smol::block_on(zip(talk, answer));
}

#[test]
fn tls_cut_off_is_closed_not_data() {
    let (mut server, mut client) = encrypted("cut-off");
    smol::block_on(async {
        client.write(b"half a li").await.unwrap();
        client.flush().await.unwrap();
        drop(client); // no close_notify
        assert!(matches!(server.next(LONG, line).await, Err(Ended::Closed)));
    });
}

#[test]
fn starttls_takes_nothing_from_before_the_handshake() {
    let dir = scratch("injection");
    let acceptor = Acceptor::load(&Authority::new().issue(&dir, "mail.test")).unwrap();
    smol::block_on(async {
        let (mut wire, mut peer) = pair();
        peer.write_all(b"STARTTLS\r\nMAIL FROM:<injected@example.org>\r\n").await.unwrap();
        assert_eq!(wire.next(LONG, line).await.unwrap(), b"STARTTLS\r");
        let Err(Ended::Io(e)) = wire.start_tls(&acceptor, LONG).await else { panic!("accepted") };
        assert!(e.to_string().contains("plain text"), "{e}");
        wire.discard_buffered();
        assert!(matches!(wire.next(LONG, line).await, Err(Ended::Closed)));
        // Injected after the 220 it is no handshake.
        let (mut wire, mut peer) = pair();
        peer.write_all(b"MAIL FROM:<injected@example.org>\r\n").await.unwrap();
        assert!(wire.start_tls(&acceptor, LONG).await.is_err());
        assert!(matches!(wire.next(LONG, line).await, Err(Ended::Closed)));
    });
}

#[test]
fn a_silent_handshake_times_out() {
    let dir = scratch("silent");
    let acceptor = Acceptor::load(&Authority::new().issue(&dir, "mail.test")).unwrap();
    smol::block_on(async {
        let (mut wire, _peer) = pair();
        assert!(matches!(wire.start_tls(&acceptor, Duration::ZERO).await, Err(Ended::Timeout)));
    });
}
