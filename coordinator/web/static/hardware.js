// A node's inventory in words.
import { h } from './dom.js';
import { bytes, count } from './format.js';
import { facts } from './parts.js';

export function board(i) {
  // A device tree names the machine whole; its vendor is a word for drivers.
  const name = [i?.system?.source === 'dmi' ? i.system.vendor : '', i?.system?.product].filter(Boolean).join(' ');
  return name || (i?.system?.virtualization ? 'virtual machine' : 'board unknown');
}

export function hardwareLine(i) {
  if (!i) return 'not probed yet';
  const physical = (i.links || []).filter((l) => l.physical).length;
  const gpus = (i.pci || []).filter((p) => p.class === '0302' || (p.class === '0300' && (i.devices || []).some((d) => d.class === 'gpu'))).length;
  return [
    board(i), i.cpu.model || i.kernel.architecture, count(i.cpu.threads, 'thread'), bytes(i.memory.totalBytes), count((i.disks || []).length, 'disk'),
    physical ? count(physical, 'link') : '', gpus ? count(gpus, 'GPU') : '', i.devices?.length ? count(i.devices.length, 'device') : '', temperature(i),
  ].filter(Boolean).join(' · ');
}

function temperature(i) {
  const hottest = Math.max(...(i.sensors || []).filter((s) => s.kind === 'temperature').map((s) => s.value));
  return Number.isFinite(hottest) ? `${hottest.toFixed(0)} °C at probe` : '';
}

const list = (items, say) => (items?.length ? h('ul', {}, items.map((x) => h('li', {}, say(x)))) : null);
const words = (...parts) => parts.filter(Boolean).join(' ');
const unit = { temperature: ' °C', fan: ' rpm', voltage: ' V', power: ' W', current: ' A' };

export function hardware(i) {
  const missing = Object.entries(i.kernel.features || {}).filter(([, has]) => !has).map(([name]) => name);
  return facts([
    ['Board', words(board(i), i.system.serial && `(serial ${i.system.serial})`)], ['Virtual', i.system.virtualization],
    ['CPU', words(i.cpu.model, `${i.cpu.sockets}×${i.cpu.sockets ? i.cpu.cores / i.cpu.sockets : i.cpu.cores} cores, ${count(i.cpu.threads, 'thread')}${i.cpu.maxMHz ? `, ${i.cpu.maxMHz} MHz` : ''}${i.cpu.cacheBytes ? `, ${bytes(i.cpu.cacheBytes)} cache` : ''}`)],
    ['Memory', words(bytes(i.memory.totalBytes), i.memory.swapBytes && `and ${bytes(i.memory.swapBytes)} swap`, ...(i.memory.hugePages || []).filter((p) => p.total).map((p) => `, ${p.total} pages of ${bytes(p.sizeBytes)}`))],
    ['NUMA', i.numa?.length > 1 ? list(i.numa, (n) => `${n.id}: CPUs ${n.cpus}, ${bytes(n.memoryBytes)}`) : null],
    ['Disks', list(i.disks, (d) => words(d.name, bytes(d.sizeBytes), d.bus, d.bus === 'sata' || d.bus === 'scsi' || d.bus === 'sas' ? (d.rotational ? 'rotating' : 'solid-state') : '', d.removable && 'removable', d.model))],
    ['Mounts', list(i.mounts, (m) => words(m.path, m.filesystem, m.sizeBytes && bytes(m.sizeBytes), m.readOnly && 'read-only'))],
    ['Links', list((i.links || []).filter((l) => l.physical || (l.type !== 'loopback' && l.addresses?.length)), (l) => words(l.name, l.type, l.up ? 'up' : 'down', l.speedMbps && `${l.speedMbps} Mbit/s`, l.driver, ...(l.addresses || [])))],
    ['Devices', list(i.devices, (d) => words(d.class, d.path || d.name, d.label))],
    ['USB', list(i.usb, (u) => words(u.path, `${u.vendor}:${u.product}`, u.name || u.className))],
    ['PCI', list(i.pci, (p) => words(p.address, `${p.vendor}:${p.device}`, p.className || p.class, p.driver))],
    ['Sensors', list(i.sensors, (s) => `${s.chip} ${s.name} ${Number(s.value.toFixed(2))}${unit[s.kind] || ''}`)],
    ['Power', list(i.power, (p) => words(p.name, p.type, p.capacityPercent !== undefined && `${p.capacityPercent} %`, p.status, p.online === false && 'off'))],
    ['TPM', i.tpm ? `version ${i.tpm.version}` : null], ['Clock', list(i.clocks, (c) => c.name)],
    ['Kernel', `${i.kernel.version} ${i.kernel.architecture}, cgroups ${i.kernel.cgroupVersion || 'none'}${missing.length ? `; without ${missing.join(', ')}` : ''}`], ['OS', i.kernel.osImage],
  ]);
}
