use super::*;
use crate::secure::frame::MAX_FRAME_LEN;
use crate::secure::plaintext::PlaintextPool;
use crate::secure::record::Opener;
use crate::secure::suite::Suite;

const KEY: [u8; 32] = [9; 32];
const MAX: usize = 16 << 20;

impl Unpacker {
    fn next_event(&mut self) -> Result<Option<Event>, FrameError> {
        self.next(
            &PartialMessages::new(MAX, std::time::Duration::from_secs(30)),
            Identity::UNPROVED,
        )
    }
}

fn pool() -> PlaintextPool {
    PlaintextPool::new(MAX)
}

/// Returns plaintext whose memory may be shared by long messages only.
fn unshared(bytes: &[u8]) -> Plaintext {
    Plaintext {
        bytes: Bytes::copy_from_slice(bytes),
        may_share: false,
    }
}

fn ends() -> (Packer, Opener, Unpacker) {
    let suite = Suite::ChaChaPoly;
    (
        Packer::new(Sealer::new(suite, &KEY, 4).unwrap()),
        Opener::new(suite, &KEY, 4).unwrap(),
        Unpacker::new(MAX),
    )
}

/// Moves every record from `packer` to `unpacker`. Returns the number of records and what was read.
fn deliver(
    packer: &mut Packer,
    opener: &mut Opener,
    unpacker: &mut Unpacker,
) -> (usize, Vec<Event>) {
    let mut records = 0;
    let mut events = Vec::new();
    while let Some(frame) = packer.frames.pop() {
        records += 1;
        unpacker.feed(pool().open(opener, &frame).unwrap());
        while let Some(event) = unpacker.next_event().unwrap() {
            events.push(event);
        }
    }
    (records, events)
}

fn fill(packer: &mut Packer, batch: &mut VecDeque<Bytes>, max: usize) -> Result<(), FrameError> {
    packer.fill(batch, max, &Owed::default())
}

fn message(len: usize, fill: u8) -> Bytes {
    vec![fill; len].into()
}

fn batch(messages: &[Bytes]) -> VecDeque<Bytes> {
    messages.iter().cloned().collect()
}

#[test]
fn small_messages_share_a_record() {
    let (mut packer, mut opener, mut unpacker) = ends();
    let messages: Vec<_> = (0..200).map(|i| message(usize::from(i), i)).collect();
    fill(&mut packer, &mut batch(&messages), MAX).unwrap();
    let (records, events) = deliver(&mut packer, &mut opener, &mut unpacker);
    assert_eq!(records, 1);
    let expected: Vec<_> = messages.into_iter().map(Event::Message).collect();
    assert_eq!(events, expected);
}

#[test]
fn a_large_message_takes_several_flushes_of_bounded_size() {
    let (mut packer, mut opener, mut unpacker) = ends();
    let large = message(3 << 20, 5);
    let small = message(10, 6);
    let mut batch = batch(&[large.clone(), small.clone()]);
    let mut events = Vec::new();
    let mut flushes = 0;
    loop {
        fill(&mut packer, &mut batch, MAX).unwrap();
        if packer.frames.is_empty() {
            break;
        }
        assert!(packer.frames.len() <= FLUSH_LEN + MAX_FRAME_LEN + LENGTH_LEN);
        flushes += 1;
        events.extend(deliver(&mut packer, &mut opener, &mut unpacker).1);
    }
    assert!(flushes >= 12, "{flushes}");
    assert_eq!(events, [Event::Message(large), Event::Message(small)]);
}

#[test]
fn empty_messages_take_several_flushes_of_bounded_size() {
    let (mut packer, mut opener, mut unpacker) = ends();
    let mut batch = VecDeque::from(vec![Bytes::new(); 3 * FLUSH_LEN / HEADER_LEN]);
    let all = batch.len();
    let mut received = 0;
    while !batch.is_empty() {
        fill(&mut packer, &mut batch, MAX).unwrap();
        assert!(packer.frames.len() <= FLUSH_LEN + MAX_FRAME_LEN + LENGTH_LEN);
        received += deliver(&mut packer, &mut opener, &mut unpacker).1.len();
    }
    assert_eq!(received, all);
}

#[test]
fn messages_that_end_near_the_end_of_a_record_arrive_whole() {
    let (mut packer, mut opener, mut unpacker) = ends();
    for len in (MAX_PLAINTEXT_LEN - 12)..(MAX_PLAINTEXT_LEN + 4) {
        let messages = [message(len, 1), message(3, 2), message(0, 0)];
        fill(&mut packer, &mut batch(&messages), MAX).unwrap();
        let (_, events) = deliver(&mut packer, &mut opener, &mut unpacker);
        assert_eq!(events, messages.map(Event::Message), "{len}");
    }
}

#[test]
fn a_message_over_the_limit_is_refused_after_those_before_it_are_written() {
    let (mut packer, mut opener, mut unpacker) = ends();
    let mut batch = batch(&[message(10, 1), message(11, 2), message(9, 3)]);
    fill(&mut packer, &mut batch, 10).unwrap();
    assert_eq!(batch.len(), 2);
    deliver(&mut packer, &mut opener, &mut unpacker);

    let refused = fill(&mut packer, &mut batch, 10);
    let too_long = FrameError::MessageTooLong { len: 11, max: 10 };
    assert_eq!(refused.unwrap_err().to_string(), too_long.to_string());
    assert_eq!((batch.len(), packer.frames.len()), (1, 0));

    fill(&mut packer, &mut batch, 10).unwrap();
    let (_, events) = deliver(&mut packer, &mut opener, &mut unpacker);
    assert_eq!(events, [Event::Message(message(9, 3))]);
}

#[test]
fn keepalives_do_not_pile_up_while_the_peer_does_not_read() {
    let (mut packer, mut opener, mut unpacker) = ends();
    for _ in 0..100 {
        packer.keepalive().unwrap();
    }
    let (records, events) = deliver(&mut packer, &mut opener, &mut unpacker);
    assert_eq!((records, events), (1, vec![]));
}

#[test]
fn a_header_or_a_control_word_that_is_split_between_records_is_read() {
    let mut plaintext = Vec::new();
    plaintext.put_u32(3);
    plaintext.put_slice(b"abc");
    plaintext.put_u32(0xFFFF_FFFE);
    plaintext.put_u32(0);
    plaintext.put_u32(0xFFFF_FFFD);
    plaintext.put_u32(GOODBYE);
    plaintext.put_u16(515);
    let expected = [
        Event::Message("abc".into()),
        Event::Probe,
        Event::Message(Bytes::new()),
        Event::Answer,
        Event::Goodbye(CloseCode(515)),
    ];
    for size in 1..=plaintext.len() {
        let mut unpacker = Unpacker::new(3);
        let mut events = Vec::new();
        for piece in plaintext.chunks(size) {
            unpacker.feed(unshared(piece));
            while let Some(event) = unpacker.next_event().unwrap() {
                events.push(event);
            }
        }
        assert_eq!(events, expected, "pieces of {size}");
    }
}

#[test]
fn a_length_over_the_limit_or_an_unknown_control_word_is_an_error() {
    let next = |header: u32| {
        let mut unpacker = Unpacker::new(1000);
        unpacker.feed(unshared(&header.to_be_bytes()));
        unpacker.next_event()
    };
    let too_long = next(1001).unwrap_err();
    assert!(matches!(
        too_long,
        FrameError::PeerMessageTooLong {
            len: 1001,
            max: 1000
        }
    ));
    assert!(next(1000).unwrap().is_none());
    let longest = next(FIRST_CONTROL - 1).unwrap_err();
    assert!(matches!(longest, FrameError::PeerMessageTooLong { .. }));
    for word in [FIRST_CONTROL, ANSWER - 1] {
        let unknown = next(word).unwrap_err();
        assert!(matches!(unknown, FrameError::Malformed { .. }), "{word:x}");
    }
}

#[test]
fn memory_is_taken_for_bytes_that_arrived_not_for_the_announced_length() {
    let mut unpacker = Unpacker::new(LONGEST_MESSAGE);
    let mut start = 0xF000_0000_u32.to_be_bytes().to_vec();
    start.extend_from_slice(&[1; 100]);
    unpacker.feed(unshared(&start));
    assert!(unpacker.next_event().unwrap().is_none());
    let mut arrived = 100;
    for _ in 0..50 {
        let partial = unpacker.partial.as_ref().unwrap();
        assert_eq!(partial.memory().0, arrived);
        assert!(partial.memory().1 <= 2 * arrived);
        unpacker.feed(unshared(&[1; 5000]));
        assert!(unpacker.next_event().unwrap().is_none());
        arrived += 5000;
    }
}

#[test]
fn a_reassembled_message_takes_no_more_memory_than_its_length() {
    let (mut packer, mut opener, mut unpacker) = ends();
    let mut batch = batch(&[message(200_000, 1)]);
    fill(&mut packer, &mut batch, MAX).unwrap();
    while let Some(frame) = packer.frames.pop() {
        if let Some(partial) = &unpacker.partial {
            assert!(partial.memory().1 <= 200_000);
        }
        unpacker.feed(pool().open(&mut opener, &frame).unwrap());
        if let Some(event) = unpacker.next_event().unwrap() {
            assert_eq!(event, Event::Message(message(200_000, 1)));
        }
    }
    assert!(unpacker.partial.is_none());
}

#[test]
fn control_words_go_between_messages_and_each_kind_at_most_once_in_a_call() {
    let (mut packer, mut opener, mut unpacker) = ends();
    let owed = Owed::default();
    let long = message(FLUSH_LEN + 10, 1);
    let short = message(3, 2);
    let mut batch = batch(&[long.clone(), short.clone()]);
    packer.fill(&mut batch, MAX, &owed).unwrap();
    assert!(!packer.is_between_messages() && !packer.has_control);

    // The message has been sealed in part, so what is owed now must wait for its end.
    for _ in 0..100 {
        owed.add(Words::PROBE);
        owed.add(Words::ANSWER);
    }
    let (_, mut events) = deliver(&mut packer, &mut opener, &mut unpacker);
    assert_eq!(events, []);
    packer.fill(&mut batch, MAX, &owed).unwrap();
    assert!(packer.is_between_messages() && packer.has_control && !owed.any());
    events.extend(deliver(&mut packer, &mut opener, &mut unpacker).1);
    let expected = [
        Event::Message(long),
        Event::Probe,
        Event::Answer,
        Event::Message(short),
    ];
    assert_eq!(events, expected);
}

#[test]
fn at_most_one_control_word_of_each_kind_waits_to_be_written() {
    let (mut packer, mut opener, mut unpacker) = ends();
    let owed = Owed::default();
    let fill_and_ask = |packer: &mut Packer| {
        owed.add(Words::ANSWER);
        packer.fill(&mut VecDeque::new(), MAX, &owed).unwrap();
    };
    for _ in 0..1000 {
        fill_and_ask(&mut packer);
    }
    let (_, events) = deliver(&mut packer, &mut opener, &mut unpacker);
    assert_eq!(events, [Event::Answer]);
    packer.has_control = false;
    fill_and_ask(&mut packer);
    let (_, events) = deliver(&mut packer, &mut opener, &mut unpacker);
    assert_eq!(events, [Event::Answer]);
}

#[test]
fn a_confirmation_is_a_record_of_its_own() {
    for expected in [&b""[..], b"\x03", &[7; 33]] {
        let (mut packer, mut opener, _) = ends();
        packer.confirmation(expected).unwrap();
        let record = packer.frames.pop().unwrap();
        let opened = pool().open(&mut opener, &record).unwrap();
        assert_eq!(opened.bytes, expected);
    }
}

#[test]
fn a_goodbye_arrives_after_the_messages_before_it() {
    let (mut packer, mut opener, mut unpacker) = ends();
    fill(&mut packer, &mut batch(&[message(4, 4)]), MAX).unwrap();
    packer.goodbye(CloseCode::IDLE).unwrap();
    let (records, events) = deliver(&mut packer, &mut opener, &mut unpacker);
    assert_eq!(records, 2);
    let last = Event::Goodbye(CloseCode::IDLE);
    assert_eq!(events, [Event::Message(message(4, 4)), last]);
}

/// Puts messages of these lengths into one record, and returns the unpacker that was fed with it, and
/// where the record lies in memory.
fn fed(
    lens: &[usize],
    max_message_len: usize,
    may_share: bool,
) -> (Unpacker, std::ops::Range<*const u8>) {
    let mut plaintext = BytesMut::new();
    for len in lens {
        plaintext.put_u32(u32::try_from(*len).unwrap());
        plaintext.put_bytes(8, *len);
    }
    let bytes = plaintext.freeze();
    let record = bytes.as_ptr_range();
    let mut unpacker = Unpacker::new(max_message_len);
    unpacker.feed(Plaintext { bytes, may_share });
    (unpacker, record)
}

#[test]
fn messages_are_copied_unless_their_record_is_shared_or_they_are_a_large_part_of_it() {
    let cases: [(&[usize], bool); 7] = [
        (&[100], false),
        (&[100, 30_000], false),
        (&[KEEP_LEN - 1], false),
        (&[KEEP_LEN], true),
        (&[KEEP_LEN, 3 * KEEP_LEN - 8], true),
        (&[KEEP_LEN, 3 * KEEP_LEN - 7], false),
        (&[SLAB_LEN + 1], false),
    ];
    for (lens, kept) in cases {
        for may_share in [false, true] {
            let (mut unpacker, record) = fed(lens, MAX, may_share);
            let mut messages = Vec::new();
            while let Some(Event::Message(message)) = unpacker.next_event().unwrap() {
                messages.push(message);
            }
            let found: Vec<_> = messages.iter().map(Bytes::len).collect();
            assert_eq!(found, lens);
            let within = record.contains(&messages[0].as_ptr());
            assert_eq!(within, kept || may_share, "{lens:?}");
        }
    }
}

#[test]
fn messages_of_a_record_that_continues_another_ones_header_are_copied() {
    let (mut unpacker, record) = fed(&[100, 0], MAX, true);
    unpacker.plaintext.truncate(106);
    assert!(
        matches!(unpacker.next_event(), Ok(Some(Event::Message(message)))
        if record.contains(&message.as_ptr()))
    );
    assert!(unpacker.next_event().unwrap().is_none());
    let rest = unpacker.plaintext.as_ptr();
    assert!(!record.contains(&rest), "two bytes hold a record");

    let mut later = BytesMut::from(&[0, 3][..]);
    later.put_slice(b"abc");
    later.put_u32(50);
    later.put_bytes(7, 50);
    let later = Plaintext {
        bytes: later.freeze(),
        may_share: true,
    };
    unpacker.feed(later);
    for expected in [Bytes::from_static(b"abc"), message(50, 7)] {
        assert_eq!(
            unpacker.next_event().unwrap(),
            Some(Event::Message(expected))
        );
    }
    assert_eq!(unpacker.shortest_kept as usize, KEEP_LEN);
    assert!(unpacker.next_event().unwrap().is_none());
}

#[test]
fn short_messages_share_pieces_of_memory_of_bounded_size() {
    let (mut unpacker, _) = fed(&[100; 500], MAX, false);
    let mut shared = 0;
    let mut end = std::ptr::null();
    for _ in 0..500 {
        let Some(Event::Message(message)) = unpacker.next_event().unwrap() else {
            panic!("a message is missing");
        };
        assert!(unpacker.slab.len() + message.len() <= SLAB_LEN);
        shared += usize::from(message.as_ptr() == end);
        end = unpacker.slab.as_ptr().wrapping_add(HEADER_LEN);
    }
    assert!(shared > 450, "{shared} of 500");
}

#[test]
fn a_message_over_the_limit_behind_a_short_one_is_an_error() {
    let (mut unpacker, _) = fed(&[5, 11], 10, false);
    assert_eq!(
        unpacker.next_event().unwrap(),
        Some(Event::Message(message(5, 8)))
    );
    assert!(matches!(
        unpacker.next_event(),
        Err(FrameError::PeerMessageTooLong { len: 11, max: 10 })
    ));
    let (mut unpacker, _) = fed(&[10], 10, false);
    assert!(unpacker.next_event().unwrap().is_some());
}

#[test]
fn a_stream_that_waits_for_a_record_holds_no_record() {
    for (lens, cut) in [
        (vec![100; 300], 0),
        (vec![KEEP_LEN], 0),
        (vec![20_000], 1),
        (vec![20_000, 9], 9 + 1),
    ] {
        let (mut packer, mut opener, mut unpacker) = ends();
        let messages: Vec<_> = lens.iter().map(|len| message(*len, 1)).collect();
        fill(&mut packer, &mut batch(&messages), MAX).unwrap();
        let pool = pool();
        let record = packer.frames.pop().unwrap();
        let mut plaintext = pool.open(&mut opener, &record).unwrap();
        plaintext.bytes.truncate(plaintext.bytes.len() - cut);
        unpacker.feed(plaintext);
        assert!(pool.shared_bytes() > 0);
        while unpacker.next_event().unwrap().is_some() {}
        assert_eq!(pool.shared_bytes(), 0, "{lens:?}");
    }
}

#[test]
fn a_keepalive_gives_back_the_memory_of_a_burst() {
    let (mut packer, mut opener, mut unpacker) = ends();
    fill(&mut packer, &mut batch(&[message(100_000, 1)]), MAX).unwrap();
    deliver(&mut packer, &mut opener, &mut unpacker);
    packer.keepalive().unwrap();
    deliver(&mut packer, &mut opener, &mut unpacker);
    assert!(!packer.frames.bytes_mut().try_reclaim(1000));
}
