"""Panels, variables and dashboards as all of ours look: the only module that knows Grafana's SDK."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as schema
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Panel = Builder[schema.Panel]
TAG = "ai-assist"
# What every metric of the service is selected by, and the window that fits the screen and the scrapes.
STACK = 'stack="$stack"'
WINDOW = "$__rate_interval"
_SOURCE = schema.DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH, _HEIGHT = 8, 8
_STAT_WIDTH, _STAT_HEIGHT = 4, 4


@dataclass(frozen=True)
class Query:
    """One expression; the legend may name labels, as in ``{{instance}}``."""

    expression: str
    legend: str = ""


def _target(query: Query, name: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expression).ref_id(name).datasource(_SOURCE)
    return target.legend_format(query.legend) if query.legend else target


def value(title: str, unit: str, expression: str, about: str = "") -> Panel:
    """Return one number."""
    reduced = common.ReduceDataOptions().calcs(["lastNotNull"])
    panel = stat.Panel().title(title).description(about).datasource(_SOURCE).unit(unit)
    panel = panel.reduce_options(reduced).graph_mode(options.BigValueGraphMode.AREA)
    return panel.span(_STAT_WIDTH).height(_STAT_HEIGHT).with_target(_target(Query(expression), "A").range())


def lines(title: str, unit: str, *queries: Query, about: str = "", stacked: bool = False) -> Panel:
    """Return series over time, with their last and largest values."""
    legend = common.VizLegendOptions().display_mode(options.LegendDisplayMode.TABLE)
    legend = legend.placement(options.LegendPlacement.BOTTOM).show_legend(show_legend=True)
    panel = timeseries.Panel().title(title).description(about).datasource(_SOURCE).unit(unit).min(0)
    panel = panel.legend(legend.calcs(["lastNotNull", "max"])).span(_WIDTH).height(_HEIGHT)
    panel = panel.tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL)).fill_opacity(20)
    for name, query in zip(ascii_uppercase, queries, strict=False):
        # Only histograms have exemplars; asked for others, Prometheus would search in vain.
        target = _target(query, name).range().exemplar("_bucket{" in query.expression)
        panel = panel.with_target(target)
    return panel


def heat(title: str, expression: str, about: str = "") -> Panel:
    """Return how a histogram in seconds is distributed over time; the expression keeps the label ``le``."""
    panel = heatmap.Panel().title(title).description(about).datasource(_SOURCE)
    panel = panel.y_axis(heatmap.YAxisConfig().unit("s"))
    panel = panel.color(
        heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    )
    target = _target(Query(expression, "{{le}}"), "A").range().format(PromQueryFormat.HEATMAP)
    return panel.span(_WIDTH).height(_HEIGHT).with_target(target)


def listing(title: str, unit: str, expression: str, about: str = "", *, hidden: Sequence[str] = ()) -> Panel:
    """Return a table of the labels and values of now; ``hidden`` columns do not show."""
    hide = schema.DataTransformerConfig(
        id_val="organize", options={"excludeByName": dict.fromkeys(["Time", *hidden], True)}
    )
    panel = table.Panel().title(title).description(about).datasource(_SOURCE).unit(unit)
    target = _target(Query(expression), "A").instant().format(PromQueryFormat.TABLE)
    return panel.with_transformation(hide).span(_WIDTH).height(_HEIGHT).with_target(target)


def choice(name: str, label: str, query: str, *, several: bool = False) -> Builder[schema.VariableModel]:
    """Return a variable whose values come from Prometheus; ``several`` may be chosen, at first all."""
    variable = dashboard.QueryVariable(name).label(label).datasource(_SOURCE)
    variable = variable.query({"query": query, "refId": name, "qryType": 5})
    variable = variable.refresh(schema.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(
        schema.VariableSort.ALPHABETICAL_ASC
    )
    if several:
        everything = schema.VariableOption(text="All", value="$__all")
        return variable.multi(multi=True).include_all(include_all=True).current(everything)
    return variable


def entry(name: str, label: str, start: str) -> Builder[schema.VariableModel]:
    """Return a number that the reader enters."""
    chosen = schema.VariableOption(text=start, value=start)
    return dashboard.TextBoxVariable(name).label(label).default_value(start).current(chosen)


STACKS = choice("stack", "Stack", "label_values(assist_build_info, stack)")


def board(
    name: str,
    title: str,
    about: str,
    rows: Mapping[str, Sequence[Panel]],
    variables: Sequence[Builder[schema.VariableModel]] = (STACKS,),
) -> str:
    """Return a dashboard as JSON: its rows by title, its variables after that of the data source."""
    link = dashboard.DashboardLink("ai-assist").type(schema.DashboardLinkType.DASHBOARDS).tags([TAG])
    made = dashboard.Dashboard(f"ai-assist: {title}").uid(f"ai-assist-{name}").description(about).tags([TAG])
    made = made.link(
        link.as_dropdown(as_dropdown=True).include_vars(include_vars=True).keep_time(keep_time=True)
    )
    made = made.time("now-6h", "now").refresh("1m").tooltip(schema.DashboardCursorSync.CROSSHAIR)
    made = made.with_variable(
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    )
    for variable in variables:
        made = made.with_variable(variable)
    for heading, panels in rows.items():
        made = made.with_row(dashboard.Row(heading))
        for panel in panels:
            made = made.with_panel(panel)
    document = made.build()
    for number, each in enumerate(document.panels or [], start=1):
        each.id_val = number
    return _as_read(document)


def _as_read(document: schema.Dashboard) -> str:
    """Return the dashboard as the SDK's schema reads it, with the defaults of each kind of panel."""
    register_default_plugins()
    read = schema.Dashboard.from_json(json.loads(json.dumps(document, cls=JSONEncoder)))
    return json.dumps(read, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
