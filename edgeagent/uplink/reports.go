package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/edgeagent/uplink/wal"
	"skerry.dev/skerry/messaging"
)

// Bounds of delivering reports.
const (
	// window is how many reports may be under way at once: enough to fill a slow link after an outage.
	window = 32
	// syncAfter is how long a report may be undelivered before it is worth a flash write.
	syncAfter = 2 * time.Second
)

// Pod reports a pod's status. It replaces an earlier one that was not delivered yet.
func (u *Uplink) Pod(r messaging.PodReport) error {
	return u.report("pod", r.UID, false, func(seq uint64) any {
		r.Boot, r.Seq = u.cfg.Boot, seq
		return r
	})
}

// NodeStatus reports the node's capacity, conditions and labels, latest wins.
func (u *Uplink) NodeStatus(r messaging.NodeReport) error {
	return u.report("node", "status", false, func(seq uint64) any {
		r.Boot, r.Seq = u.cfg.Boot, seq
		return r
	})
}

// Inventory reports the hardware, latest wins.
func (u *Uplink) Inventory(inventory []byte) error {
	return u.report("inventory", "all", false, func(seq uint64) any {
		return messaging.InventoryReport{Boot: u.cfg.Boot, Seq: seq, Inventory: inventory}
	})
}

// Volume reports that a volume's data are gone.
func (u *Uplink) Volume(r messaging.VolumeReport) error {
	return u.report("volume", r.Volume, false, func(seq uint64) any {
		r.Boot, r.Seq = u.cfg.Boot, seq
		return r
	})
}

// Event reports an event. Of many undelivered ones the oldest give way.
func (u *Uplink) Event(r messaging.EventReport) error {
	return u.report("event", r.Reason, true, func(seq uint64) any {
		r.Boot, r.Seq = u.cfg.Boot, seq
		return r
	})
}

func (u *Uplink) report(kind, id string, keep bool, build func(seq uint64) any) error {
	u.mu.Lock()
	u.seq++
	seq := u.seq
	u.mu.Unlock()
	data, err := json.Marshal(build(seq))
	if err != nil {
		return fmt.Errorf("report %s %s: %w", kind, id, err)
	}
	subject := messaging.UpSubject(u.cfg.Connect.Node, kind, id)
	err = u.cfg.WAL.Put(wal.Record{Seq: seq, Key: subject, Data: data, Keep: keep})
	signal(u.wakeDrain) // even when the disk is full, it can be delivered from memory
	return err
}

// delivery is the end of one attempt.
type delivery struct {
	record wal.Record
	err    error
}

// drain delivers reports while the link is up: at once when nothing is under way, newest state per subject otherwise.
func (u *Uplink) drain(ctx context.Context, nc *nats.Conn) error {
	d := drainer{u: u, nc: nc, busy: map[string]bool{}, ended: make(chan delivery, window)}
	again := newRetry()
	defer again.stop()
	// The timer runs only while something waits: an idle node has nothing to wake up for.
	slow := time.NewTimer(syncAfter)
	defer slow.Stop()
	armed := true
	for {
		d.send(ctx)
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), d.finish())
		case <-u.wakeDrain:
			if !armed {
				slow.Reset(syncAfter)
				armed = true
			}
		case <-again.due():
			d.paused = false
		case e := <-d.ended:
			d.end(e, again)
		case <-slow.C:
			armed = false
			d.settle()
		}
	}
}

type drainer struct {
	u      *Uplink
	nc     *nats.Conn
	busy   map[string]bool // subjects under way; events have none
	ended  chan delivery   // capacity window: an ending delivery never waits
	flying int
	paused bool
}

// send begins as many deliveries as fit.
func (d *drainer) send(ctx context.Context) {
	if d.paused || !d.u.Up() {
		return
	}
	for _, r := range d.u.cfg.WAL.Pending() {
		if d.flying >= window {
			return
		}
		key := r.Key
		if r.Keep {
			key += "#" + strconv.FormatUint(r.Seq, 10)
		}
		if d.busy[key] {
			continue
		}
		d.busy[key] = true
		d.flying++
		go func() { d.ended <- delivery{r, d.deliver(ctx, r)} }()
	}
}

func (d *drainer) end(e delivery, again *retry) {
	key := e.record.Key
	if e.record.Keep {
		key += "#" + strconv.FormatUint(e.record.Seq, 10)
	}
	delete(d.busy, key)
	d.flying--
	if e.err != nil {
		if d.u.Up() && !d.paused {
			d.u.log.Warn("report not delivered, will retry", "subject", e.record.Key, "err", e.err)
		}
		d.paused = true
		again.later()
		return
	}
	again.clear()
	d.paused = false
	if err := d.u.cfg.WAL.Done(e.record); err != nil {
		d.u.log.Error("report log", "err", err)
	}
}

// settle makes reports that wait for long survive a power cut.
func (d *drainer) settle() {
	if err := d.u.cfg.WAL.Sync(); err != nil {
		d.u.log.Error("report log", "err", err)
	}
}

// finish waits for the deliveries under way, which end with the context.
func (d *drainer) finish() error {
	for ; d.flying > 0; d.flying-- {
		if e := <-d.ended; e.err == nil {
			if err := d.u.cfg.WAL.Done(e.record); err != nil {
				return err
			}
		}
	}
	return d.u.cfg.WAL.Sync()
}

// deliver publishes a record to the stream and waits until it is stored.
func (d *drainer) deliver(ctx context.Context, r wal.Record) error {
	ctx, cancel := d.u.link.request(ctx)
	defer cancel()
	msg := nats.NewMsg(r.Key)
	msg.Data = r.Data
	c := d.u.cfg
	msg.Header.Set(nats.MsgIdHdr, c.Connect.Node+":"+c.Boot+":"+strconv.FormatUint(r.Seq, 10))
	answer, err := d.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return err
	}
	return stored(answer.Data)
}

// stored reads a stream's answer to a publish.
func stored(data []byte) error {
	var ack struct {
		Stream string `json:"stream"`
		Error  *struct {
			Description string `json:"description"`
			Code        int    `json:"err_code"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &ack); err != nil {
		return fmt.Errorf("read the stream's answer: %w", err)
	}
	if ack.Error != nil {
		return fmt.Errorf("stream refuses: %s (%d)", ack.Error.Description, ack.Error.Code)
	}
	if ack.Stream == "" {
		return fmt.Errorf("stream answers %.80q", data)
	}
	return nil
}
