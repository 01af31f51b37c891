package tenant

// Activity is how much senders and readers did with a tenant. It is counted where
// they are served, so a process that is killed forgets what it has not written
// down.
type Activity struct {
	Received uint64 `json:"received_samples"` // in requests that could be read
	Queries  uint64 `json:"queries"`
	Read     uint64 `json:"read_samples"` // that queries looked at
}

// Plus is the sum of a and b.
func (a Activity) Plus(b Activity) Activity {
	return Activity{a.Received + b.Received, a.Queries + b.Queries, a.Read + b.Read}
}

// Activity returns what this process has counted of a tenant who is stored here.
func (u *Usage) Activity(tenantID string) Activity {
	c := u.Of(tenantID)
	return Activity{Received: c[receivedSamples].Load(), Queries: c[queries].Load(), Read: c[readSamples].Load()}
}
