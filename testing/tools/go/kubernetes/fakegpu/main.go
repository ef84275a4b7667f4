// Command fakegpu is a Kubernetes device plugin that offers N devices that do not exist as nvidia.com/gpu.
// A container that asks for one gets the environment variables of a real plugin and nothing else. For tests only.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

type plugin struct {
	api.UnimplementedDevicePluginServer
	n     int
	model string
	done  chan struct{}
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *plugin) ListAndWatch(_ *api.Empty, s api.DevicePlugin_ListAndWatchServer) error {
	var d []*api.Device
	for i := range p.n {
		d = append(d, &api.Device{ID: fmt.Sprintf("fake-gpu-%d", i), Health: api.Healthy})
	}
	if err := s.Send(&api.ListAndWatchResponse{Devices: d}); err != nil {
		return err
	}
	select {
	case <-s.Context().Done():
	case <-p.done:
	}
	return nil
}

func (p *plugin) Allocate(_ context.Context, r *api.AllocateRequest) (*api.AllocateResponse, error) {
	out := &api.AllocateResponse{}
	for _, c := range r.ContainerRequests {
		ids := strings.Join(c.DevicesIds, ",")
		out.ContainerResponses = append(out.ContainerResponses, &api.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": ids, "FAKE_GPU_MODEL": p.model},
		})
	}
	return out, nil
}

func (p *plugin) GetPreferredAllocation(context.Context, *api.PreferredAllocationRequest) (*api.PreferredAllocationResponse, error) {
	return &api.PreferredAllocationResponse{}, nil
}

func (p *plugin) PreStartContainer(context.Context, *api.PreStartContainerRequest) (*api.PreStartContainerResponse, error) {
	return &api.PreStartContainerResponse{}, nil
}

func run(dir, resource, model string, n int) error {
	sock := filepath.Join(dir, "fakegpu.sock")
	if err := os.Remove(sock); err != nil && !os.IsNotExist(err) {
		return err
	}
	l, err := net.Listen("unix", sock)
	if err != nil {
		return err
	}
	p := &plugin{n: n, model: model, done: make(chan struct{})}
	srv := grpc.NewServer()
	api.RegisterDevicePluginServer(srv, p)
	go srv.Serve(l)
	defer srv.Stop()
	defer close(p.done)
	conn, err := grpc.NewClient("unix://"+filepath.Join(dir, "kubelet.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := api.NewRegistrationClient(conn).Register(ctx, &api.RegisterRequest{Version: api.Version, Endpoint: filepath.Base(sock), ResourceName: resource}); err != nil {
		return err
	}
	log.Printf("registered %d x %s", n, resource)
	for { // a restarted kubelet empties the directory: register again
		time.Sleep(time.Second)
		if _, err := os.Stat(sock); err != nil {
			return fmt.Errorf("socket is gone, registering again")
		}
	}
}

func main() {
	dir := flag.String("dir", "/var/lib/kubelet/device-plugins", "the kubelet's device plugin directory")
	resource := flag.String("resource", "nvidia.com/gpu", "resource name")
	model := flag.String("model", "Tesla-T4", "what FAKE_GPU_MODEL says in a container")
	n := flag.Int("n", 1, "how many devices")
	flag.Parse()
	for {
		log.Print(run(*dir, *resource, *model, *n))
		time.Sleep(time.Second)
	}
}
