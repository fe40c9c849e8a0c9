"""pymesos 0.3.9 tells its scheduler of heartbeats; dpark's `drun` and `mrun` are older than that and know no such call.
They meet the same end on any master that sends its first heartbeat at once, as Mesos does."""

import pymesos.scheduler as scheduler

told = scheduler.MesosSchedulerDriver.on_heartbeat


def on_heartbeat(self):
    if hasattr(self.sched, "processHeartBeat"):
        told(self)


scheduler.MesosSchedulerDriver.on_heartbeat = on_heartbeat
