"""`headgate replay backtest`: what another policy would have said of a part of the log."""

from headgate_replay.backtest.backtesting import BacktestInput, backtest_log
from headgate_replay.backtest.report import BacktestReport

__all__ = ["BacktestInput", "BacktestReport", "backtest_log"]
