"""A scheduler written as pymesos' documentation shows, with its events on a queue for the stories to wait on."""

import queue
import threading

from addict import Dict
from pymesos import MesosSchedulerDriver, Scheduler


class Recorder(Scheduler):
    def __init__(self):
        self.offers, self.updates, self.registrations = queue.Queue(), queue.Queue(), queue.Queue()
        self.framework_id = None

    def registered(self, driver, framework_id, master_info):
        self.framework_id = framework_id["value"]
        self.registrations.put(framework_id["value"])

    def reregistered(self, driver, master_info):
        self.registrations.put(driver.framework_id)

    def resourceOffers(self, driver, offers):
        for offer in offers:
            self.offers.put(offer)

    def statusUpdate(self, driver, update):
        self.updates.put((update["task_id"]["value"], update["state"], dict(update)))

    def error(self, driver, message):
        self.registrations.put("error: " + message)


class Framework:
    recorder = Recorder

    def __init__(self, master, name="story", role=None, framework_id=None, failover_timeout=60, **more):
        info = Dict(user="root", name=name, failover_timeout=failover_timeout, **more)
        if framework_id:
            info.id.value = framework_id
        if role:
            info.role = role
        self.scheduler = self.recorder()
        self.driver = MesosSchedulerDriver(self.scheduler, info, master, use_addict=True)
        self.driver.start()

    def registered(self, seconds=20):
        return self.scheduler.registrations.get(timeout=seconds)

    def offer(self, seconds=30):
        return self.scheduler.offers.get(timeout=seconds)

    def launch(self, offer, tasks):
        """tasks: {id: shell command}"""
        infos = []
        for task_id, command in tasks.items():
            task = Dict(name=task_id, agent_id=offer["agent_id"])
            task.task_id.value = task_id
            task.command.value = command
            task.command.shell = True
            task.resources = [
                Dict(name="cpus", type="SCALAR", scalar=Dict(value=0.1)),
                Dict(name="mem", type="SCALAR", scalar=Dict(value=32)),
            ]
            infos.append(task)
        self.driver.launchTasks(offer["id"], infos)

    def wait_states(self, wanted, seconds=60):
        """Waits until each task of `wanted` has shown its state; answers every update seen on the way."""
        seen, left = [], dict(wanted)
        while left:
            task, state, update = self.scheduler.updates.get(timeout=seconds)
            seen.append((task, state, update))
            if left.get(task) == state:
                del left[task]
        return seen

    def stop(self, failover=False):
        self.driver.stop(failover)
        self.driver.join()
