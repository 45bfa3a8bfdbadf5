//! The rows of the ledger of `net`.

macro_rules! sites {
    ($($(#[$doc:meta])* $name:ident = $index:literal, $tag:literal;)*) => {
        /// A place in the `net` programs that keeps one row of [`Loss`](crate::Loss). What is
        /// noted in the kernel and makes no record counts as `filtered`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum NetSite { $($(#[$doc])* $name = $index,)* }

        impl NetSite {
            /// Every site, in the order of the ledger.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The site's name in recordings, JSON and documentation.
            #[must_use]
            pub const fn tag(self) -> &'static str {
                match self { $(Self::$name => $tag,)* }
            }
        }
    };
}

sites! {
    /// A socket is described.
    Socket = 0, "net_socket";
    /// A process uses a socket.
    Owner = 1, "net_owner";
    /// A send, noted for the retransmits to come.
    Send = 2, "net_send";
    /// A receive, noted.
    Receive = 3, "net_receive";
    /// `tcp_retransmit_skb`.
    Retransmit = 4, "net_retransmit";
    /// `tcp_retransmit_synack`.
    SynAck = 5, "net_synack";
    /// `inet_sock_set_state`.
    State = 6, "net_state";
    /// `tcp_send_reset` and `tcp_receive_reset`.
    Reset = 7, "net_reset";
    /// `tcp_destroy_sock`.
    Destroy = 8, "net_destroy";
    /// `tcp_cong_state_set`.
    Congestion = 9, "net_congestion";
    /// `tcp_probe`: segments that change nothing about the window are filtered.
    Window = 10, "net_window";
    /// `kfree_skb`.
    Drop = 11, "net_drop";
    /// `iter/task_file`.
    Holders = 12, "net_holders";
    /// `iter/tcp`.
    Sample = 13, "net_sample";
    /// The function `inet_csk_accept`.
    Accept = 14, "net_accept";
    /// A packet that goes to a queueing discipline: noted.
    Queue = 15, "net_queue";
    /// Packets that a queueing discipline gives to its device: added up.
    Dequeue = 16, "net_dequeue";
}

/// A site's number is its place in the ledger, which has as many rows as there are sites.
const _: () = {
    let mut place = 0;
    while place < NetSite::ALL.len() {
        assert!(NetSite::ALL[place] as usize == place);
        place += 1;
    }
};
