//! The members of the cluster, as this shard goes by them: asked for and changed where they are kept, told
//! among nodes, and the groups that this shard leads brought to what they are. Which step is next is decided
//! in [`crate::cluster::steer`].
//!
//! A roster that is known here may be old, and a leader that went by it could bring back a replica that was
//! removed. So a leader asks for the roster after it was elected, before each change that it makes: who led
//! before it went by an earlier one, and can change nothing any more.
//!
//! Invariants:
//! 1. A roster is taken over only from who has it from the log: its version never goes back.
//! 2. Who leaves stays connected as long as a group here counts on it, and a while longer, to hear of it.
//! 3. A node that was removed stops when its own logs say that no group counts on it, or others do whom its groups
//!    can do without it with; never because it hears nobody.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ashlar_consensus::raft::Role;
use ashlar_consensus::{NodeId, PartitionId};
use ashlar_io::Monotonic;
use ashlar_partition::Standing;

use super::Core;
use super::cluster::Cluster;
use crate::cluster::question::{Asker, Layout};
use crate::cluster::roster::{Change, KEY, Newcomer, write_file};
use crate::cluster::steer::{Step, is_let_go, is_settled, next_step};
use crate::cluster::{Decree, Member, Roster, StoreId, introduce, roster_now};
use crate::command::member::Invited;
use crate::command::spread::{Answer, Question};
use crate::distant::kind;
use crate::peer::Lane;

/// Times that a change is tried anew because another came first.
const TRIES_MAX: u32 = 16;
/// How long who leaves stays connected at least.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a node hears nobody before it asks those why that should call it, and how long until it asks again.
const LONELY: Duration = Duration::from_secs(3);
/// How long until the leader of the partition that keeps the roster reads it again: a change may have been made of
/// which nobody has heard, since the node that made it died.
const ASKS_AGAIN: Duration = Duration::from_secs(10);
/// Groups that are steered at once.
const STEERED_MAX: usize = 16;
/// Entries that a replica may lack and still count as caught up.
const LAG_MAX: u64 = 256;

/// What a shard knows of the members.
#[derive(Debug)]
pub(super) struct Members {
    /// How the cluster began.
    decree: Decree,
    /// Who the members are, and where.
    roster: RefCell<Roster>,
    /// Who is connected: these, and those that leave.
    connected: RefCell<Vec<Member>>,
    /// When the roster was taken over.
    since: Cell<Monotonic>,
    /// Partitions whose group is being changed.
    steered: RefCell<BTreeSet<PartitionId>>,
    /// When the roster was last asked for because this shard keeps it.
    asked: Cell<Monotonic>,
    /// When a peer was last connected, or asked why it is not.
    company: Cell<Monotonic>,
    /// This node was removed, and nobody counts on this shard any more.
    pub(super) is_done: Cell<bool>,
}

impl Members {
    /// Returns the other nodes that this one is to be connected with.
    pub(super) fn peers(&self, own: NodeId) -> Vec<NodeId> {
        let connected = self.connected.borrow();
        let nodes = connected.iter().map(|member| member.node);
        nodes.filter(|node| *node != own).collect()
    }

    /// Returns how many members there are.
    pub(super) fn count(&self) -> usize {
        self.roster.borrow().members.len()
    }

    pub(super) fn new(decree: Decree, roster: Roster, now: Monotonic) -> Self {
        Self {
            decree,
            connected: RefCell::new(roster.members.clone()),
            roster: RefCell::new(roster),
            since: Cell::new(now),
            steered: RefCell::default(),
            asked: Cell::new(now),
            company: Cell::new(now),
            is_done: Cell::new(false),
        }
    }
}

impl Core {
    /// Asks who is to be a member for its disk, and whether it fits.
    ///
    /// # Errors
    /// The error to answer with: it is not there, or is another, or was formatted in another way.
    pub(crate) async fn invite(&self, invited: Invited) -> Result<Newcomer, String> {
        let Invited { name, addr, store } = invited;
        let store = match store {
            Some(store) => store,
            None => self
                .introduced(&name, addr)
                .await
                .map_err(|why| format!("ERR {why}"))?,
        };
        Ok(Newcomer { name, store, addr })
    }

    async fn introduced(&self, name: &str, addr: SocketAddr) -> Result<StoreId, String> {
        let format = &self.shared.format;
        let config = self.config();
        let asker = Asker {
            name: config.cluster.name.clone(),
            store: format.store().unwrap_or_default(),
            layout: Layout::of(format),
            list: Vec::new(),
        };
        let (own, layout) = (asker.name.clone(), asker.layout);
        let introduced = introduce(&self.reactor, addr, asker).await?;
        if introduced.name != name {
            return Err(format!("{} waits at {addr}, not {name}", introduced.name));
        }
        match layout.difference((&own, name), &introduced.layout) {
            Some(difference) => Err(difference),
            None => Ok(introduced.store),
        }
    }

    /// Changes the members of the cluster; returns them as they are then.
    ///
    /// # Errors
    /// The error to answer with: the change makes no sense, cannot be made now, or nobody knows whether it
    /// was.
    pub(crate) async fn change_members(&self, change: &Change) -> Result<Roster, String> {
        for _ in 0..TRIES_MAX {
            let (roster, bytes) = self.read_roster().await?;
            let next = roster.after(change).map_err(|why| format!("ERR {why}"))?;
            let wanted = next.encode();
            if self.swap_roster(bytes, wanted.clone()).await? == wanted {
                tracing::info!("the members are now {}", next.names());
                self.shared.roster.learn(&next);
                return Ok(next);
            }
        }
        Err("TRYAGAIN others change the members at the same time; nothing was done".to_owned())
    }

    /// Returns the roster as the cluster has it, and its bytes: none when it is that of the founders. The node goes by
    /// it from then on: who changed it last may have died before it told anybody.
    async fn read_roster(&self) -> Result<(Roster, Vec<u8>), String> {
        let Some(cluster) = &self.cluster else {
            return Err("ERR this node is alone; a cluster is founded with --peers".to_owned());
        };
        let bytes = self.swap_roster(Vec::new(), Vec::new()).await?;
        let founded = || Roster::founded(&cluster.members.decree);
        let roster = match bytes.is_empty() {
            true => Some(founded()),
            false => Roster::decode(&bytes),
        };
        let roster = roster.ok_or("DAMAGED the list of members cannot be read")?;
        self.shared.roster.learn(&roster);
        Ok((roster, bytes))
    }

    /// Puts a roster in the place of another, none for no change; returns what is there then.
    async fn swap_roster(&self, from: Vec<u8>, to: Vec<u8>) -> Result<Vec<u8>, String> {
        let key = KEY.to_vec();
        let partition = self.routes.partition_of(KEY);
        match self.ask(partition, Question::Swap { key, from, to }).await {
            Answer::Value(value) => Ok(value),
            Answer::Failed(what) => Err(what),
            other => Err(format!(
                "TRYAGAIN the list of members cannot be changed now: {other:?}"
            )),
        }
    }

    /// Asks for the roster and takes it over: whoever leads its partition now tells the others.
    pub(super) fn refresh_roster(self: &Rc<Self>) {
        let core = Rc::clone(self);
        self.reactor.spawn(async move {
            // Without an answer it is asked for again later.
            let _ = core.read_roster().await;
        });
    }

    /// Tells a peer who the members are.
    pub(super) fn tell_roster(&self, to: NodeId) {
        let Some(cluster) = &self.cluster else { return };
        if self.shard == 0 && self.shared.roster.version() > 1 {
            let bytes = cluster.members.roster.borrow().encode();
            let (id, parts) = (PartitionId(0), [&bytes[..]]);
            let _ = cluster
                .peers
                .queue(to, Lane::Bulk, kind::ROSTER, id, &parts);
        }
    }

    /// Takes in what a peer knows of the members.
    pub(super) fn take_roster(&self, bytes: &[u8]) -> Option<()> {
        self.shared.roster.learn(&Roster::decode(bytes)?);
        Some(())
    }

    /// Goes by the roster that the node knows: once a tick.
    pub(crate) fn tick_members(self: &Rc<Self>) {
        let Some(cluster) = &self.cluster else { return };
        let members = &cluster.members;
        if let Some(heard) = cluster.peers.take_heard() {
            self.shared.roster.learn(&heard);
        }
        let version = members.roster.borrow().version;
        if let Some(roster) = self.shared.roster.newer(version) {
            self.take_over(cluster, roster);
        }
        self.connect_members(cluster);
        self.steer_groups(cluster);
        self.watch_removal(cluster);
        let now = self.reactor.now();
        if now.since(members.asked.get()) > ASKS_AGAIN && self.keeps_roster() {
            members.asked.set(now);
            self.refresh_roster();
        }
    }

    /// Says whether this shard leads the partition that keeps the roster.
    fn keeps_roster(&self) -> bool {
        let partition = self.routes.partition_of(KEY);
        self.routes.shard_of(partition) == self.shard
            && self.standing(partition) == Standing::Serves
    }

    fn take_over(self: &Rc<Self>, cluster: &Cluster, roster: Roster) {
        let members = &cluster.members;
        let roster = roster_now(&members.decree, roster, &self.config().cluster.peers);
        members.since.set(self.reactor.now());
        cluster.peers.set_roster(&roster);
        members.roster.replace(roster.clone());
        if self.shard > 0 {
            return;
        }
        self.note_members(&roster);
        for member in members.connected.borrow().iter() {
            self.tell_roster(member.node);
        }
        let (reactor, data) = (self.reactor.clone(), self.config().data.clone());
        self.reactor.spawn(async move {
            // What is not kept is heard again from the others.
            if let Err(error) = write_file(&reactor, &data, &roster).await {
                tracing::warn!("the list of members is not kept: {error}");
            }
        });
    }

    /// Connects who came, and lets go of who left.
    fn connect_members(&self, cluster: &Cluster) {
        let members = &cluster.members;
        let (roster, mut connected) = (members.roster.borrow(), members.connected.borrow_mut());
        let is_farewell = self.reactor.now().since(members.since.get()) < FAREWELL;
        let mut wanted = roster.members.clone();
        let left = connected.iter().filter(|member| !roster.has(member.node));
        wanted.extend(left.filter(|_| is_farewell).cloned());
        // Not only who was connected: this node may have been started since they left.
        for member in connected.iter().chain(&roster.former) {
            let is_new = wanted.iter().all(|of| of.node != member.node);
            if is_new && self.counts_on(member.node) {
                wanted.push(member.clone());
            }
        }
        if *connected == wanted {
            return;
        }
        let has = |list: &[Member], node| list.iter().any(|member| member.node == node);
        let mut supports = cluster.supports.borrow_mut();
        for member in wanted.iter().filter(|member| member.node != cluster.node) {
            if !has(&connected, member.node) {
                supports.want(member.node);
            }
        }
        for member in connected.iter().filter(|member| !has(&wanted, member.node)) {
            supports.unwant(member.node);
        }
        cluster.peers.set_members(&wanted);
        *connected = wanted;
    }

    /// Says whether a group here has a replica on a node.
    fn counts_on(&self, node: NodeId) -> bool {
        let mut data = self.data.borrow_mut();
        let mut groups = data.partitions().filter_map(|partition| partition.raft());
        groups.any(|raft| {
            raft.membership()
                .members()
                .any(|member| member.node == node)
        })
    }

    /// Begins to change the groups that this shard leads and that are not on the members.
    fn steer_groups(self: &Rc<Self>, cluster: &Cluster) {
        let wanted = cluster.members.wanted();
        let mut steered = cluster.members.steered.borrow_mut();
        let mut data = self.data.borrow_mut();
        for partition in data.partitions() {
            let Some(raft) = partition.raft() else {
                continue;
            };
            let leads = raft.role() == Role::Leader && !is_settled(raft.membership(), &wanted);
            if leads && steered.len() < STEERED_MAX && steered.insert(partition.id()) {
                let (core, id) = (Rc::clone(self), partition.id());
                self.reactor.spawn(async move { core.steer(id).await });
            }
        }
    }

    /// Makes one step with a group.
    async fn steer(self: Rc<Self>, id: PartitionId) {
        let read = self.read_roster().await;
        let Some(cluster) = &self.cluster else { return };
        if let Ok((roster, _)) = read {
            let nodes: Vec<NodeId> = roster.members.iter().map(|member| member.node).collect();
            self.make_step(cluster, id, &nodes, |_| true);
        } else {
            // Who leaves may have left the partition that keeps the roster already, and hears nothing of it any
            // more. To hand over is right however old the roster is that it goes by.
            let hands_over = |step: &Step| matches!(step, Step::HandOver(_));
            self.make_step(cluster, id, &cluster.members.wanted(), hands_over);
        }
        cluster.members.steered.borrow_mut().remove(&id);
    }

    fn make_step(
        &self,
        cluster: &Cluster,
        id: PartitionId,
        wanted: &[NodeId],
        is_right: impl FnOnce(&Step) -> bool,
    ) {
        let mut data = self.data.borrow_mut();
        let partition = &mut data.owned_mut(id.0 as usize).partition;
        let Some(raft) = partition.raft().filter(|raft| raft.role() == Role::Leader) else {
            return;
        };
        let is_near = |node| cluster.peers.is_connected(node);
        let is_ready = |member: &ashlar_consensus::Member| {
            let mut followers = raft.followers();
            let matched = followers.find(|(of, _)| of == member).map(|(_, at)| at);
            is_near(member.node) && matched.is_some_and(|at| at.0 + LAG_MAX >= raft.last().index.0)
        };
        let step = next_step(raft.membership(), cluster.node, wanted, is_ready, is_near);
        let Some(step) = step.filter(is_right) else {
            return;
        };
        tracing::info!("partition {id}: {step}");
        match step {
            Step::HandOver(to) => {
                self.stir();
                partition.hand_over(Some(to));
            }
            Step::Change(change) => {
                self.decide_one(cluster, &mut data, id, |raft, _, _| {
                    if let Err(refused) = raft.change_membership(&change) {
                        tracing::debug!("partition {id} is not changed now: {refused}");
                    }
                });
            }
        }
    }

    /// Notes when this node was removed and nobody counts on this shard any more.
    fn watch_removal(&self, cluster: &Cluster) {
        let members = &cluster.members;
        let now = self.reactor.now();
        let connected = members.connected.borrow();
        let mut others = connected
            .iter()
            .filter(|member| member.node != cluster.node);
        if others.any(|member| cluster.peers.is_connected(member.node)) {
            members.company.set(now);
        } else if now.since(members.company.get()) > LONELY {
            members.company.set(now);
            cluster.peers.knock();
        }
        if members.is_done.get() {
            return;
        }
        let is_member = members.roster.borrow().has(cluster.node);
        let is_heard = now.since(members.since.get()) > FAREWELL;
        let is_out = !is_member && is_heard && !self.counts_on(cluster.node);
        if is_out || self.is_let_go(cluster) {
            members.is_done.set(true);
            self.shared.roster.shard_is_done();
        }
    }

    /// Says whether enough peers have said that this node was removed, for every group here that counts on it.
    fn is_let_go(&self, cluster: &Cluster) -> bool {
        let denying = cluster.peers.denied_by();
        let mut data = self.data.borrow_mut();
        let groups = data.partitions().filter_map(|partition| partition.raft());
        let mut counting = groups.map(|raft| raft.membership()).filter(|group| {
            let mut members = group.members();
            members.any(|member| member.node == cluster.node)
        });
        !denying.is_empty() && counting.all(|group| is_let_go(group, cluster.node, &denying))
    }

    /// Says whether this node was removed from its cluster, and no shard of it is counted on any more.
    pub(crate) fn was_removed(&self) -> bool {
        self.cluster.is_some() && self.shared.roster.shards_done() >= self.shared.format.shards
    }
}

impl Members {
    fn wanted(&self) -> Vec<NodeId> {
        let roster = self.roster.borrow();
        roster.members.iter().map(|member| member.node).collect()
    }
}
