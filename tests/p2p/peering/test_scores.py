from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from p2p.peering.scores import (
    BAN_AT,
    DISCONNECT_AT,
    HALF_LIFE,
    MAX_PEERS,
    MIN_BAN,
    MIN_SCORE,
    WEIGHTS,
    Ban,
    Disconnect,
    Offence,
    PeerScores,
    PeerState,
    Unban,
)

VIOLATION = Offence.PROTOCOL_VIOLATION


def test_every_offence_costs():
    assert set(WEIGHTS) == set(Offence)
    assert all(weight < 0 for weight in WEIGHTS.values())


def test_the_way_down_and_back():
    table = PeerScores()
    seen = [table.offend("p", VIOLATION, 0.0) for _ in range(6)]
    assert seen == [[], [Disconnect("p")], [], [], [Ban("p")], []]
    assert table.state("p", 1.0) is PeerState.BANNED
    assert not table.admits("p", 1.0)
    # -60 decays past -50 within MIN_BAN, but a ban lasts at least that long.
    assert table.score("p", MIN_BAN - 1) > BAN_AT
    assert table.tick(MIN_BAN - 1) == []
    assert table.tick(MIN_BAN) == [Unban("p")]
    assert table.state("p", MIN_BAN) is PeerState.DISCONNECTED
    assert table.admits("p", MIN_BAN)
    assert table.tick(2 * HALF_LIFE) == []
    assert table.state("p", 2 * HALF_LIFE) is PeerState.HEALTHY


def test_one_offence_is_forgiven_and_forgotten():
    table = PeerScores()
    assert table.offend("p", Offence.STREAM_FAULT, 0.0) == []
    assert table.score("p", HALF_LIFE) == WEIGHTS[Offence.STREAM_FAULT] / 2
    table.tick(10 * HALF_LIFE)
    assert table.offenders() == ()


def test_a_heavy_offence_bans_from_healthy():
    table = PeerScores()
    table.offend("p", Offence.MULTIPLEXER_VIOLATION, 0.0)
    assert table.offend("p", Offence.MULTIPLEXER_VIOLATION, 0.0) == [Ban("p")]


def test_a_returning_offender_is_banned_again():
    table = PeerScores()
    for _ in range(10):
        table.offend("p", VIOLATION, 0.0)
    later = 2 * HALF_LIFE
    assert table.tick(later) == [Unban("p")]
    assert [c for _ in range(4) for c in table.offend("p", VIOLATION, later)] == [Ban("p")]


def test_a_stranger_is_healthy():
    assert PeerScores().state("q", 0.0) is PeerState.HEALTHY


def test_memory_is_bounded_and_the_worst_stay():
    table = PeerScores(max_peers=3)
    for _ in range(5):
        table.offend("worst", VIOLATION, 0.0)
    for number in range(10):
        table.offend(f"peer {number}", Offence.STREAM_FAULT, 1.0)
    assert len(table.offenders()) == 3
    assert table.state("worst", 1.0) is PeerState.BANNED
    assert MAX_PEERS == 4096


@given(st.lists(st.tuples(st.sampled_from(list(Offence)), st.floats(0, 1000)), max_size=30))
def test_scores_stay_in_bounds_and_only_time_heals(steps):
    table, now = PeerScores(), 0.0
    for offence, pause in steps:
        now += pause
        before = table.score("p", now)
        table.offend("p", offence, now)
        assert MIN_SCORE <= table.score("p", now) < max(before, -1e-9) or before == MIN_SCORE
        assert table.score("p", now + 1) >= table.score("p", now)


class ScoreMachine(RuleBasedStateMachine):
    """Whatever happens, state and score agree and commands follow the table of transitions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = PeerScores()
        self.now = 0.0
        self.banned: set[str] = set()

    @rule(peer=st.sampled_from("abc"), offence=st.sampled_from(list(Offence)))
    def offend(self, peer, offence):
        for command in self.table.offend(peer, offence, self.now):
            if isinstance(command, Ban):
                self.banned.add(peer)
            else:
                assert command == Disconnect(peer)

    @rule(seconds=st.floats(0, 2000))
    def wait(self, seconds):
        self.now += seconds
        for command in self.table.tick(self.now):
            assert isinstance(command, Unban)
            self.banned.remove(command.peer_id)

    @invariant()
    def agrees(self):
        for peer in "abc":
            state, score = self.table.state(peer, self.now), self.table.score(peer, self.now)
            assert (state is PeerState.BANNED) == (peer in self.banned)
            if state is PeerState.HEALTHY:
                assert score > DISCONNECT_AT
            if state is PeerState.DISCONNECTED:
                assert BAN_AT < score <= DISCONNECT_AT


TestScoreMachine = ScoreMachine.TestCase
