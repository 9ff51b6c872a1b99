"""The page of `wallet-payment report`."""

from typing import Final

from server.cli.answers import money_text
from server.cli.page import facts, page_end, page_start, table
from server.cli.svg import Bars, Line, Write, bar_plot, line_plot
from server.ledger.records import TopupState, TransactionType
from server.reports import CREDIT_BOUNDS_SECONDS, DayFigures, Report, day_of, success_rate

_MOVED: Final = tuple(TransactionType)
_NAMES: Final = {
    TransactionType.TOPUP: "Top-ups",
    TransactionType.PAYMENT: "Payments",
    TransactionType.REFUND: "Refunds",
    TransactionType.REVERSAL: "Reversals",
    TransactionType.ADJUSTMENT: "Adjustments",
}


def page_of(report: Report) -> str:
    """Write the page; every figure of a plot stands in a table too."""
    first, last = day_of(report.start_time_ms), day_of(report.end_time_ms - 1)
    parts = [page_start("Wallets", f"{first} to {last}, whole days UTC, from the ledger")]
    parts += [_currency(report, currency) for currency in report.days]
    parts += [_ways(report), _outcomes(report), _times(report)]
    return "".join([*parts, page_end()])


def bound_name(number: int) -> str:
    """Name a group of times to credit."""
    if number == len(CREDIT_BOUNDS_SECONDS):
        return f"over {_seconds(CREDIT_BOUNDS_SECONDS[-1])}"
    return f"up to {_seconds(CREDIT_BOUNDS_SECONDS[number])}"


def _seconds(seconds: int) -> str:
    for size, name in ((3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"


def _currency(report: Report, currency: str) -> str:
    days = report.days[currency]
    totals = {kind: report.total(currency, kind) for kind in _MOVED}

    def write(minor_units: int) -> str:
        return money_text(currency, minor_units)

    closing = list(days.values())[-1].held
    refunds, payments = totals[TransactionType.REFUND], totals[TransactionType.PAYMENT]
    figures = {"held at first": write(report.opening[currency])}
    figures |= {
        f"{_NAMES[kind].lower()} ({total.count})": write(total.minor_units)
        for kind, total in totals.items()
        if total.count
    }
    figures["held at the end"] = write(closing)
    if payments.count:
        share = round(-1_000 * refunds.minor_units / payments.minor_units) / 10
        figures["refunded of what was paid"] = f"{share:g} %"
    names = list(days)
    bars = [
        Bars(_NAMES[kind], [one.sum_of(kind).minor_units for one in days.values()])
        for kind, total in totals.items()
        if total.count
    ]
    return "".join(
        (
            f"<h2>{currency}</h2>\n",
            facts(figures),
            "<h2>In and out by day</h2>\n",
            bar_plot(f"{currency} in and out by day", bars, names, write),
            "<h2>Held at the end of each day</h2>\n",
            line_plot(f"{currency} held", [_held(days)], names, write),
            _days(days, write),
        )
    )


def _held(days: dict[str, DayFigures]) -> Line:
    last = max(len(days) - 1, 1)
    return Line("held", [(number / last, one.held) for number, one in enumerate(days.values())])


def _days(days: dict[str, DayFigures], write: Write) -> str:
    columns = ("Day", *(f"{_NAMES[kind]}#" for kind in _MOVED), "Held#")
    rows: list[tuple[str, ...]] = [
        (
            day,
            *(
                f"{write(one.sums[kind].minor_units)} ({one.sums[kind].count})"
                if kind in one.sums
                else ""
                for kind in _MOVED
            ),
            write(one.held),
        )
        for day, one in days.items()
    ]
    return table(columns, rows)


def _ways(report: Report) -> str:
    columns = ("Gateway", "Method", "Currency", "Top-ups#", "Amount#")
    rows: list[tuple[str, ...]] = [
        (gateway, method, currency, str(one.count), money_text(currency, one.minor_units))
        for (gateway, method, currency), one in sorted(report.ways.items())
    ]
    plots = "".join(_plot_of_ways(report, currency) for currency in report.days)
    return "<h2>Money in, by gateway and method</h2>\n" + plots + table(columns, rows)


def _plot_of_ways(report: Report, currency: str) -> str:
    """Draw what came in of a currency by each way; nothing where nothing came in."""
    ways = {
        f"{gateway} {method}": one.minor_units
        for (gateway, method, of), one in sorted(report.ways.items())
        if of == currency
    }
    if not ways:
        return ""
    bars = [Bars("credited", list(ways.values()))]
    title = f"{currency} in by gateway and method"
    return bar_plot(title, bars, list(ways), lambda value: money_text(currency, value))


def _outcomes(report: Report) -> str:
    states = tuple(TopupState)
    columns = (
        "Gateway",
        "Method",
        *(f"{state.value.lower().replace('_', ' ')}#" for state in states),
        "Success#",
    )
    rows: list[tuple[str, ...]] = []
    rates = []
    for (gateway, method), counts in sorted(report.outcomes.items()):
        credited, ended = success_rate(counts)
        rate = f"{round(1_000 * credited / ended) / 10:g} %" if ended else "-"
        rates.append((f"{gateway} {method}", round(100 * credited / ended) if ended else 0))
        told = tuple(str(counts.get(state, 0)) for state in states)
        rows.append((gateway, method, *told, rate))
    plot = ""
    if rates:
        bars = [Bars("credited", [rate for _, rate in rates])]
        names = [name for name, _ in rates]
        plot = bar_plot("Top-ups that ended and were credited", bars, names, "{} %".format)
    about = "<p class='about'>Of the top-ups that were started in this time, as they are now.</p>"
    return f"<h2>What became of top-ups</h2>\n{about}{plot}" + table(columns, rows)


def _times(report: Report) -> str:
    names = [bound_name(number) for number in range(len(CREDIT_BOUNDS_SECONDS) + 1)]
    columns = ("Start to credit", *(f"{gateway}#" for gateway in sorted(report.times_to_credit)))
    times = [times for _, times in sorted(report.times_to_credit.items())]
    rows = [(name, *(str(one[number]) for one in times)) for number, name in enumerate(names)]
    bars = [Bars(gateway, one) for gateway, one in sorted(report.times_to_credit.items())]
    plot = bar_plot("Time from start to credit", bars, names, str) if bars else ""
    return "<h2>Time to credit</h2>\n" + plot + table(columns, list(rows))
