//! Messages as they were received: whom they are from, and whether their entries are what they say.

use super::*;

/// Takes the replicas that a message is from and to off its front.
pub(super) fn addresses(bytes: &[u8]) -> Option<(ReplicaId, ReplicaId, &[u8])> {
    let (from, rest) = bytes.split_first_chunk()?;
    let (to, rest) = rest.split_first_chunk()?;
    let id = |bytes: &[u8; 8]| ReplicaId(u64::from_le_bytes(*bytes));
    Some((id(from), id(to), rest))
}

/// Walks the entries of an append: what the core knows of each, and its bytes.
pub(super) fn entries_of<'a>(
    metas: &Metas<'a>,
    mut payload: &'a [u8],
) -> impl Iterator<Item = (EntryMeta, &'a [u8])> {
    metas.iter().map_while(move |(meta, _)| {
        let (bytes, rest) = payload.split_at_checked(meta.bytes as usize)?;
        payload = rest;
        Some((meta, bytes))
    })
}

/// Says whether the entries of an append are what their metas say, one after another.
pub(super) fn check_entries(
    replica: &Replica,
    head: &Append,
    metas: &Metas<'_>,
    payload: &[u8],
) -> Result<(), Malformed> {
    if metas.payload_bytes() != payload.len() as u64 {
        return Err(Malformed("an append whose entries do not add up"));
    }
    let (mut index, mut chain) = (head.prev.index, head.prev_chain);
    for (meta, bytes) in entries_of(metas, payload) {
        let header = EntryHeader::decode(bytes)?;
        index = index.next();
        let same = header.partition == replica.partition
            && header.index == index
            && header.term == meta.term
            && header.kind == meta.kind
            && header.chain == meta.chain.0;
        if !same || chain.is_some_and(|chain| chain_of(bytes, chain.0) != header.chain) {
            return Err(Malformed("an append whose entries are not what it says"));
        }
        chain = Some(meta.chain);
    }
    Ok(())
}
