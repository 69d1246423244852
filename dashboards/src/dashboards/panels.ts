/** The kinds of panels that dashboards are made of, each with the settings that all of its kind share. */
import {
  AxisPlacement,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueTextMode,
  GraphDrawStyle,
  GraphThresholdsStyleConfigBuilder,
  GraphThresholdsStyleMode,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TooltipDisplayMode,
  VisibilityMode,
  VizLegendOptionsBuilder,
  VizTooltipOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common'
import {
  FieldColorBuilder,
  FieldColorModeId,
  type ThresholdsConfigBuilder,
  type ValueMapping,
} from '@grafana/grafana-foundation-sdk/dashboard'
import {
  HeatmapColorMode,
  HeatmapColorOptionsBuilder,
  HeatmapTooltipBuilder,
  PanelBuilder as HeatmapBuilder,
  YAxisConfigBuilder,
} from '@grafana/grafana-foundation-sdk/heatmap'
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat'
import { PanelBuilder as StateTimelineBuilder } from '@grafana/grafana-foundation-sdk/statetimeline'
import { PanelBuilder as TimeSeriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries'
import { limitsOnly, stateMapping, thresholds } from './look.ts'
import type { PanelOptions, PanelPlan } from './plan.ts'

export interface TimeSeriesOptions extends PanelOptions {
  /** Dashed lines. */
  readonly limits?: readonly (readonly [value: number, color: string])[]
  /** Series stand on each other. */
  readonly stacked?: boolean
  readonly max?: number
  /** Whether lines may go below 0. */
  readonly belowZero?: boolean
}

/** Lines over time, from 0 up. */
export function timeSeries(options: TimeSeriesOptions): PanelPlan {
  const { limits = [], stacked = false, max, belowZero = false } = options
  const builder = () => {
    const made = graph()
      .drawStyle(GraphDrawStyle.Line)
      .lineWidth(1)
      .fillOpacity(stacked ? 30 : 5)
      .thresholds(limitsOnly(...limits))
      .thresholdsStyle(
        new GraphThresholdsStyleConfigBuilder().mode(
          limits.length > 0 ? GraphThresholdsStyleMode.Dashed : GraphThresholdsStyleMode.Off,
        ),
      )
    if (stacked) made.stacking(new StackingConfigBuilder().mode(StackingMode.Normal).group('A'))
    if (max !== undefined) made.max(max)
    if (!belowZero) made.min(0)
    return made
  }
  return { kind: 'range', options, height: options.height ?? 8, builder }
}

/** Bars for what happens now and then; each counts what happened since the one before, give or take a scrape. */
export function events(options: PanelOptions): PanelPlan {
  const builder = () =>
    graph()
      .min(0)
      .interval('1m')
      .drawStyle(GraphDrawStyle.Bars)
      .lineWidth(0)
      .fillOpacity(80)
      .stacking(new StackingConfigBuilder().mode(StackingMode.Normal).group('A'))
  return { kind: 'range', options, height: options.height ?? 8, builder }
}

function graph(): TimeSeriesBuilder {
  return new TimeSeriesBuilder()
    .showPoints(VisibilityMode.Never)
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.PaletteClassicByName))
    .legend(
      new VizLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .calcs([]),
    )
    .tooltip(biggestFirst())
}

function biggestFirst(): VizTooltipOptionsBuilder {
  const tooltip = new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi)
  // oxlint-disable-next-line unicorn/no-array-sort -- no array, but a builder of the SDK
  return tooltip.sort(SortOrder.Descending)
}

export interface StatOptions extends PanelOptions {
  readonly thresholds?: ThresholdsConfigBuilder
  readonly mappings?: ValueMapping[]
  readonly decimals?: number
  /** Shows what a series is called, and not its value. */
  readonly namesOnly?: boolean
}

/** One number for each query or series, as of now. */
export function stat(options: StatOptions): PanelPlan {
  const { mappings = [], decimals, namesOnly = false } = options
  const builder = () => {
    const made = new StatBuilder()
      .graphMode(BigValueGraphMode.None)
      .colorMode(BigValueColorMode.Value)
      .textMode(namesOnly ? BigValueTextMode.Name : BigValueTextMode.Auto)
      .reduceOptions(new ReduceDataOptionsBuilder().calcs(['lastNotNull']).fields('').values(false))
      .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds))
      .thresholds(options.thresholds ?? thresholds())
      .mappings(mappings)
    if (decimals !== undefined) made.decimals(decimals)
    return made
  }
  return { kind: 'instant', options, height: options.height ?? 4, builder }
}

export interface StateTimelineOptions extends Omit<PanelOptions, 'unit'> {
  /** What the numbers mean that the queries give; those of `stateNumber` by default. */
  readonly mappings?: ValueMapping[]
}

/** States as coloured bars over time. */
export function stateTimeline(options: StateTimelineOptions): PanelPlan {
  const builder = () =>
    new StateTimelineBuilder()
      .mappings(options.mappings ?? [stateMapping])
      .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds))
      .thresholds(thresholds())
      .showValue(VisibilityMode.Never)
      .mergeValues(true)
      .rowHeight(0.8)
      .fillOpacity(90)
      .lineWidth(0)
      .legend(
        new VizLegendOptionsBuilder()
          .showLegend(true)
          .displayMode(LegendDisplayMode.List)
          .placement(LegendPlacement.Bottom)
          .calcs([]),
      )
      .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Single))
  return { kind: 'range', options: { ...options, unit: 'none' }, height: options.height ?? 8, builder }
}

/** How many measurements fell into each bucket; the one query gives their increase by `le`. */
export function heatmap(options: PanelOptions): PanelPlan {
  const builder = () =>
    new HeatmapBuilder()
      .calculate(false)
      .color(
        new HeatmapColorOptionsBuilder()
          .mode(HeatmapColorMode.Scheme)
          .scheme('Spectral')
          .exponent(0.5)
          .steps(64)
          .reverse(true),
      )
      .showValue(VisibilityMode.Never)
      .cellGap(1)
      .yAxis(new YAxisConfigBuilder().unit(options.unit).axisPlacement(AxisPlacement.Left))
      .tooltip(new HeatmapTooltipBuilder().mode(TooltipDisplayMode.Single).yHistogram(true).showColorScale(true))
      .showLegend()
      .exemplarsColor('rgba(255,0,255,0.7)')
  return { kind: 'heatmap', options, height: options.height ?? 8, builder }
}
