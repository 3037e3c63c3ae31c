//! Counts of what the connections of a network have received in part.

/// Counts of what the connections of a network have received in part, share the memory of, or had to reject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialStats {
    /// Bytes of memory that messages which have been received in part take now.
    pub bytes: u64,
    /// The most bytes that such messages may take.
    pub max_bytes: u64,
    /// Bytes of memory that connections take which wait for the rest of a record, of at most 64 KiB. Beyond
    /// `max_bytes`, one that begins to wait keeps only what it has received of the record.
    pub part_record_bytes: u64,
    /// Bytes of memory of long records that messages share now, since they were handed on without a copy.
    pub shared_record_bytes: u64,
    /// Connections that ended because all of these messages would have taken more.
    pub evicted: u64,
    /// Connections that ended because the rest of a message did not arrive in time.
    pub timed_out: u64,
    /// Connections that ended because a record was changed, replayed, reordered or dropped on its way, or
    /// broke the protocol.
    pub rejected_records: u64,
}

impl std::ops::Add for PartialStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            max_bytes: self.max_bytes + other.max_bytes,
            part_record_bytes: self.part_record_bytes + other.part_record_bytes,
            shared_record_bytes: self.shared_record_bytes + other.shared_record_bytes,
            evicted: self.evicted + other.evicted,
            timed_out: self.timed_out + other.timed_out,
            rejected_records: self.rejected_records + other.rejected_records,
        }
    }
}
